/** The USB interface that a camera's driver is bound to. A device may have several (such as colour and infrared). */
export interface UsbInterface {
  readonly vendor: string
  readonly product: string
  readonly serial: string | undefined
  readonly number: string
}

export interface V4l2Place {
  readonly bus: string
  /** The node's name in sysfs: the product name for USB cameras, the node's function for others. */
  readonly function: string
  /** Index of the node among the nodes of its device. */
  readonly index: string
  readonly usb: UsbInterface | undefined
}

export interface V4l2Identity {
  /** Stays the same at another port; undefined without a usable serial number. */
  readonly bySerial: string | undefined
  readonly byPath: string
}

/** Returns the identities by which a camera can be recognised. */
export function describeIdentity ({ bus, function: name, index, usb }: V4l2Place): V4l2Identity {
  return {
    bySerial:
      usb?.serial === undefined || isPlaceholder(usb.serial)
        ? undefined
        : key('usb', `${usb.vendor}:${usb.product}`, usb.serial, usb.number, index),
    byPath: key('bus', bus, usb?.number ?? '-', name, index)
  }
}

/**
 * Assigns a key to every camera. If two cameras have the same serial identity, now or earlier (`sharedSerials`), it
 * identifies neither of them, so their keys also contain the bus path.
 */
export function assignKeys (
  identities: readonly V4l2Identity[],
  sharedSerials: readonly string[]
): { keys: string[], sharedSerials: string[] } {
  const shared = new Set(sharedSerials)
  const seen = new Set<string>()
  for (const { bySerial } of identities) {
    if (bySerial === undefined) continue
    if (seen.has(bySerial)) shared.add(bySerial)
    seen.add(bySerial)
  }
  const keyOf = (bySerial: string | undefined, byPath: string): string => {
    if (bySerial === undefined) return byPath
    return shared.has(bySerial) ? `${bySerial}@${byPath}` : bySerial
  }
  const times = new Map<string, number>()
  const keys = identities.map(({ bySerial, byPath }) => {
    const wanted = keyOf(bySerial, byPath)
    const count = (times.get(wanted) ?? 0) + 1
    times.set(wanted, count)
    // Happens only with a driver that reports neither bus nor name nor index. A number keeps its cameras apart.
    return count === 1 ? wanted : `${wanted}#${count}`
  })
  return { keys, sharedSerials: [...shared].sort() }
}

/** Whether the manufacturer left a placeholder instead of a serial number. */
function isPlaceholder (serial: string): boolean {
  return (
    /^[^1-9a-z]*$/i.test(serial) ||
    /^(?:none|null|n\/a|default string|to be filled.*|sn0+1|200901010001|0?123456789(?:abcdef)?)$/i.test(serial)
  )
}

function key (...parts: readonly string[]): string {
  return parts.map(part => part.replace(/[^\w.:+-]/gu, encodeURIComponent)).join('/')
}
