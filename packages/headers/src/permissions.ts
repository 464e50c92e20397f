/**
 * Features that a page could be granted, all of them denied unless said otherwise.
 * From the W3C registry of policy-controlled features, those that browsers know.
 */
export const FEATURES = [
  'accelerometer', 'autoplay', 'bluetooth', 'browsing-topics', 'camera', 'compute-pressure', 'display-capture',
  'encrypted-media', 'fullscreen', 'gamepad', 'geolocation', 'gyroscope', 'hid', 'identity-credentials-get',
  'idle-detection', 'keyboard-map', 'local-fonts', 'magnetometer', 'microphone', 'midi', 'otp-credentials', 'payment',
  'picture-in-picture', 'publickey-credentials-create', 'publickey-credentials-get', 'screen-wake-lock', 'serial',
  'storage-access', 'sync-xhr', 'usb', 'web-share', 'window-management', 'xr-spatial-tracking'
] as const

export type Feature = typeof FEATURES[number]

/** For each feature, who may use it: `self` and exact origins; nobody when it is not mentioned. */
export type Permissions = Readonly<Partial<Record<Feature, readonly string[]>>>

/** The `Permissions-Policy` field: a structured dictionary of inner lists, `camera=(), fullscreen=(self "https://a.example")`. */
export function permissionsPolicy (granted: Permissions): string {
  return FEATURES
    .map(feature => `${feature}=(${(granted[feature] ?? []).map(who => who === 'self' ? who : `"${who}"`).join(' ')})`)
    .join(', ')
}
