/** Removes credentials from URLs. The output of ffmpeg and MediaMTX goes to the log and must not contain them. */
export function redactUrls (text: string): string {
  return text
    .replace(/([a-z][a-z0-9+.-]*:\/\/)[^\s]*@/gi, '$1***@')
    .replace(/([?&](?:token|jwt|pass(?:word)?)=)[^&\s]*/gi, '$1***')
}
