/** The part of tap's `t` that these functions use: it runs the handler when the test ends. */
export interface Teardown {
  teardown (handler: () => unknown): void
}
