/** What the helpers need of a test: it runs the handler when the test ends. tap's `t` is one. */
export interface Teardown {
  teardown (handler: () => unknown): void
}
