/** Credentials in URLs must not reach a log, which is where the words of ffmpeg and MediaMTX go. */
export function redactUrls (text: string): string {
  return text
    .replace(/([a-z][a-z0-9+.-]*:\/\/)[^\s]*@/gi, '$1***@')
    .replace(/([?&](?:token|jwt|pass(?:word)?)=)[^&\s]*/gi, '$1***')
}
