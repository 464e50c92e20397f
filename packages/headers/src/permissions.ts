/**
 * Browser features that can be allowed for a page. All are denied by default.
 * They are the features in the W3C registry of policy-controlled features that browsers support.
 */
export const FEATURES = [
  'accelerometer', 'autoplay', 'bluetooth', 'browsing-topics', 'camera', 'compute-pressure', 'display-capture',
  'encrypted-media', 'fullscreen', 'gamepad', 'geolocation', 'gyroscope', 'hid', 'identity-credentials-get',
  'idle-detection', 'keyboard-map', 'local-fonts', 'magnetometer', 'microphone', 'midi', 'otp-credentials', 'payment',
  'picture-in-picture', 'publickey-credentials-create', 'publickey-credentials-get', 'screen-wake-lock', 'serial',
  'storage-access', 'sync-xhr', 'usb', 'web-share', 'window-management', 'xr-spatial-tracking'
] as const

export type Feature = typeof FEATURES[number]

/** Who may use each feature: `self` and exact origins. A feature that is not listed is denied. */
export type Permissions = Readonly<Partial<Record<Feature, readonly string[]>>>

/**
 * The value of `Permissions-Policy`, a structured dictionary of inner lists:
 * `camera=(), fullscreen=(self "https://a.example")`.
 */
export function permissionsPolicy (granted: Permissions): string {
  return FEATURES
    .map(feature => `${feature}=(${(granted[feature] ?? []).map(who => who === 'self' ? who : `"${who}"`).join(' ')})`)
    .join(', ')
}
