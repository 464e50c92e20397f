import { execFileSync } from 'node:child_process'

/** Keeps this process from reading anything for so long. */
export function blockLoopFor (ms: number): void {
  const end = performance.now() + ms
  while (performance.now() < end);
}

/** Keeps this process from reading anything until the condition holds, which must find out without the event loop. */
export function blockLoopUntil (condition: () => boolean): void {
  const end = performance.now() + 30_000
  while (!condition()) if (performance.now() > end) throw new Error('waited 30 s with the event loop blocked')
}

/** Asks a server by a program of its own, while this process stands still. */
export function redisCli (port: number, ...args: readonly string[]): string {
  return execFileSync('redis-cli', ['-p', String(port), ...args], { encoding: 'utf8' }).trim()
}
