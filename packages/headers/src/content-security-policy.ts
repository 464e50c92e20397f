/** Sources by directive, such as `{ 'img-src': ["'self'", 'blob:'] }`; `null` takes a directive away. */
export type ContentSecurityPolicy = Readonly<Partial<Record<Directive, readonly string[] | null>>>

export const DIRECTIVES = [
  'default-src', 'base-uri', 'child-src', 'connect-src', 'font-src', 'form-action', 'frame-ancestors', 'frame-src',
  'img-src', 'manifest-src', 'media-src', 'object-src', 'report-to', 'report-uri', 'require-trusted-types-for',
  'sandbox', 'script-src', 'script-src-attr', 'script-src-elem', 'style-src', 'style-src-attr', 'style-src-elem',
  'trusted-types', 'upgrade-insecure-requests', 'worker-src'
] as const

export type Directive = typeof DIRECTIVES[number]

/** For answers that are data: a browser that is made to show one as a page may do nothing with it. */
export const API_POLICY: ContentSecurityPolicy = {
  'default-src': ["'none'"],
  'base-uri': ["'none'"],
  'form-action': ["'none'"],
  'frame-ancestors': ["'none'"]
}

/** For pages: everything from here, nothing inline, in nobody's frame. */
export const PAGE_POLICY: ContentSecurityPolicy = {
  'default-src': ["'self'"],
  'base-uri': ["'none'"],
  'form-action': ["'self'"],
  'frame-ancestors': ["'none'"],
  'img-src': ["'self'", 'data:'],
  'object-src': ["'none'"],
  'script-src-attr': ["'none'"]
}
