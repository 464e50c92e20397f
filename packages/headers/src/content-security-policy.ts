/** Sources by directive, such as `{ 'img-src': ["'self'", 'blob:'] }`; `null` removes a directive. */
export type ContentSecurityPolicy = Readonly<Partial<Record<Directive, readonly string[] | null>>>

export const DIRECTIVES = [
  'default-src', 'base-uri', 'child-src', 'connect-src', 'font-src', 'form-action', 'frame-ancestors', 'frame-src',
  'img-src', 'manifest-src', 'media-src', 'object-src', 'report-to', 'report-uri', 'require-trusted-types-for',
  'sandbox', 'script-src', 'script-src-attr', 'script-src-elem', 'style-src', 'style-src-attr', 'style-src-elem',
  'trusted-types', 'upgrade-insecure-requests', 'worker-src'
] as const

export type Directive = typeof DIRECTIVES[number]

/** For responses that contain data: if a browser is tricked into showing one as a page, it loads and runs nothing. */
export const API_POLICY: ContentSecurityPolicy = {
  'default-src': ["'none'"],
  'base-uri': ["'none'"],
  'form-action': ["'none'"],
  'frame-ancestors': ["'none'"]
}

/** For pages: only resources of the same origin, nothing inline, and no embedding in frames. */
export const PAGE_POLICY: ContentSecurityPolicy = {
  'default-src': ["'self'"],
  'base-uri': ["'none'"],
  'form-action': ["'self'"],
  'frame-ancestors': ["'none'"],
  'img-src': ["'self'", 'data:'],
  'object-src': ["'none'"],
  'script-src-attr': ["'none'"]
}
