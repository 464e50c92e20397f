import { open } from 'node:fs/promises'

/** How many bytes are searched for the header. In a fragmented MP4 of MediaMTX it is small and comes first. */
const HEADER_BYTES = 64 * 1024

/**
 * Whether MediaMTX has finished a segment. When it closes the file, it writes the duration into the movie header
 * (ISO/IEC 14496-12, `mvhd`); until then the duration is zero. False for a file that has no header yet.
 */
export async function isFinished (file: string): Promise<boolean> {
  const handle = await open(file, 'r')
  try {
    const { bytesRead, buffer } = await handle.read(Buffer.alloc(HEADER_BYTES), 0, HEADER_BYTES, 0)
    const at = buffer.subarray(0, bytesRead).indexOf('mvhd', 0, 'latin1')
    // type(4), version and flags(4), creation(4), modification(4), timescale(4), duration(4). Supports version 0 only.
    return at !== -1 && at + 24 <= bytesRead && buffer.readUInt32BE(at + 4) === 0 && buffer.readUInt32BE(at + 20) > 0
  } finally {
    await handle.close()
  }
}
