import { closest } from '@marty/core'

const DAYS: readonly string[] = ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun']
const MINUTES_A_DAY = 24 * 60
const SHAPE = 'a time window is days, hours or both, and a time zone, such as "Mon-Fri 08:00-18:00 Europe/Berlin"'

/** Whether a time, in milliseconds since the epoch, lies in the window. */
export type TimeWindow = (now: number) => boolean

/**
 * Parses a time window: `[days] [from-to] zone`. Days are `Mon-Fri` or `Mon,Wed,Sun`.
 * Hours are wall-clock time in an IANA zone; the start is inclusive and the end
 * exclusive. A window that ends before it begins runs past midnight, and belongs to
 * the day on which it begins. Returns a string with the mistake if there is one.
 */
export function parseTimeWindow (text: string): TimeWindow | string {
  const words = text.split(' ')
  const zone = words.pop()!
  const hours = /^\d/.test(words.at(-1) ?? '') ? parseHours(words.pop()!) : { from: 0, to: MINUTES_A_DAY }
  const days = words.length > 0 ? parseDays(words.pop()!) : DAYS.map(() => true)
  if (words.length > 0 || text === zone) return SHAPE
  if (typeof hours === 'string') return hours
  if (typeof days === 'string') return days
  const clock = parseZone(zone)
  if (typeof clock === 'string') return clock

  const isInside = ({ day, minute }: WallTime): boolean => {
    if (hours.from < hours.to) return days[day]! && minute >= hours.from && minute < hours.to
    return (days[day]! && minute >= hours.from) || (days[(day + 6) % 7]! && minute < hours.to)
  }
  // Offsets of zones are whole minutes, so a result stays valid for the minute it was computed in.
  let knownMinute = NaN
  let result = false
  return now => {
    const minute = Math.floor(now / 60_000)
    if (minute !== knownMinute) {
      result = isInside(clock(now))
      knownMinute = minute
    }
    return result
  }
}

interface WallTime {
  /** Day of the week; 0 is Monday. */
  readonly day: number
  readonly minute: number
}

function parseHours (text: string): { readonly from: number, readonly to: number } | string {
  const match = /^(\d\d):(\d\d)-(\d\d):(\d\d)$/.exec(text)
  if (match === null) return `"${text}" is not a span of hours, such as 08:00-18:00`
  const [h1, m1, h2, m2] = match.slice(1).map(Number) as [number, number, number, number]
  const from = h1 * 60 + m1
  const to = h2 * 60 + m2
  if (m1 > 59 || m2 > 59 || from >= MINUTES_A_DAY || to > MINUTES_A_DAY) return `"${text}" is a time that does not exist`
  return from === to ? `"${text}" ends at the time at which it begins` : { from, to }
}

function parseDays (text: string): readonly boolean[] | string {
  const days = DAYS.map(() => false)
  for (const part of text.split(',')) {
    const [first, last, ...rest] = part.split('-').map(name => DAYS.indexOf(name))
    if (first === -1 || last === -1 || rest.length > 0) {
      return `"${part}" is not a day or a span of days; days are ${DAYS.join(', ')}`
    }
    for (let day = first!; ; day = (day + 1) % 7) {
      days[day] = true
      if (day === (last ?? first)) break
    }
  }
  return days
}

function parseZone (zone: string): ((now: number) => WallTime) | string {
  const format = formatIn(zone)
  if (format === null) {
    const near = closest(zone, Intl.supportedValuesOf('timeZone'))
    return 'there is no time zone ' +
      `"${zone}"${near === null ? '; write UTC, or a name such as Europe/Berlin' : `; did you mean "${near}"?`}`
  }
  return now => {
    const parts = Object.fromEntries(format.formatToParts(now).map(({ type, value }) => [type, value]))
    return { day: DAYS.indexOf(parts.weekday!), minute: Number(parts.hour) * 60 + Number(parts.minute) }
  }
}

/**
 * Returns null if the zone is not in the IANA database; an abbreviation such as EST would not follow
 * daylight saving time.
 */
function formatIn (zone: string): Intl.DateTimeFormat | null {
  if (zone !== 'UTC' && !zone.includes('/')) return null
  try {
    return new Intl.DateTimeFormat('en-US', {
      timeZone: zone,
      weekday: 'short',
      hour: '2-digit',
      minute: '2-digit',
      hourCycle: 'h23'
    })
  } catch {
    return null
  }
}
