#!/usr/bin/env bash
set -euo pipefail

usage () {
  cat <<'TEXT'
usage: tools/security-scan.sh [--strict]

Runs every security scanner of this repository and prints one table: npm audit for the packages it depends on,
marty-security-audit for its files, marty policy check for its policy. A scanner that could not run is "not run",
never clean.

  --strict  End with 3 when a scanner, or a part of one, could not run
  --help    This text

Exit codes: 0 nothing found, 1 something found, 2 wrong command line, 3 with --strict: something could not run.
TEXT
}

strict=false
for word in "$@"; do
  case "$word" in
    --strict) strict=true ;;
    --help | -h) usage; exit 0 ;;
    *)
      printf 'security-scan: there is no option "%s"; there are --strict and --help\n' "$word" >&2
      case "$word" in -s | --str* | --srt* | strict) printf 'did you mean "--strict"?\n' >&2 ;; esac
      exit 2 ;;
  esac
done

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
cd "$root"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

rows="$work/rows"
details="$work/details"
: > "$rows"
: > "$details"
found=0
missed=0

# Reads a scanner's JSON: the first line it prints is "ran|part|not run<TAB>findings<TAB>why", the rest are the findings.
# A report that is not as expected ends it with 1, so that it never counts as clean.
judge () {
  node --input-type=module - "$@" <<'PROGRAM'
import { readFileSync } from 'node:fs'
const [kind, status, file] = process.argv.slice(2)
const say = (ran, findings, why, lines = []) => console.log([[ran, findings, why].join('\t'), ...lines].join('\n').replace(/[^\P{C}\t\n]/gu, '?'))
let report
try {
  report = JSON.parse(readFileSync(file, 'utf8'))
} catch {
  say('not run', '-', `ended with ${status} and without a report`)
  process.exit(0)
}
if (kind === 'npm') {
  const counts = report.metadata?.vulnerabilities
  if (Number.isInteger(counts?.total)) {
    say('ran', counts.total, '', Object.values(report.vulnerabilities ?? {}).map(({ name, severity }) => `npm audit: ${severity}: ${name}`))
  } else say('not run', '-', `the registry did not answer: ${report.error?.code ?? report.statusCode ?? report.code ?? 'no reason given'}`)
} else if (kind === 'files') {
  if (report.version !== 1) throw new Error('unknown report version')
  const lines = report.findings.map(({ severity, rule, file, line, column, message }) => `marty-security-audit: ${severity}: ${file}:${line}:${column}: ${rule}: ${message}`)
  const missing = report.notRun.map(({ rule, file, reason }) => `${rule}${file === undefined ? '' : ` for ${file}`}: ${reason}`)
  say(missing.length === 0 ? 'ran' : 'part', report.findings.length, missing.length === 0 ? '' : `not run: ${missing.join('; ')}`, lines)
} else if (kind === 'policy') {
  if (typeof report.valid !== 'boolean' || !Array.isArray(report.problems)) throw new Error('not a policy report')
  say('ran', report.valid ? 0 : Math.max(1, report.problems.length), '', report.problems.map(({ source, line, column, message }) => `marty policy check: ${source}:${line}:${column}: ${message}`))
}
PROGRAM
}

# record NAME KIND STATUS: adds the row of a scanner that was started, from what it wrote to $work/KIND.
record () {
  local name="$1" kind="$2" status="$3" ran findings why
  if ! judge "$kind" "$status" "$work/$kind" > "$work/verdict" 2> "$work/complaint"; then
    not_run "$name" "its report could not be understood"
    return
  fi
  IFS=$'\t' read -r ran findings why < "$work/verdict"
  [ "$ran" = part ] || [ "$ran" = ran ] || { not_run "$name" "$why"; return; }
  if [ "$ran" = part ]; then missed=$((missed + 1)); fi
  found=$((found + findings))
  printf '%s\t%s\t%s\n' "$name" "${ran/part/ran in part} ${why:+($why)}" "$findings" >> "$rows"
  tail -n +2 "$work/verdict" >> "$details"
}

not_run () {
  missed=$((missed + 1))
  printf '%s\tnot run (%s)\t-\n' "$1" "$2" >> "$rows"
}

if [ ! -f package-lock.json ]; then
  not_run 'npm audit' 'there is no package-lock.json'
elif ! command -v npm > /dev/null; then
  not_run 'npm audit' 'npm is not installed'
else
  status=0
  npm audit --omit=dev --json --fetch-retries=1 --fetch-timeout=20000 > "$work/npm" 2> "$work/npm.err" || status=$?
  record 'npm audit' npm "$status"
fi

auditor=tools/security-audit/dist/main.js
if [ ! -f "$auditor" ]; then
  not_run 'marty-security-audit' 'not compiled; run "npm run build"'
else
  status=0
  node "$auditor" . --json > "$work/files" 2> "$work/files.err" || status=$?
  if [ "$status" -gt 1 ]; then not_run 'marty-security-audit' "$(head -n 1 "$work/files.err")"; else record 'marty-security-audit' files "$status"; fi
fi

marty=packages/cli/dist/marty.js
policy=policies/rbac_policies.yaml
if [ ! -f "$policy" ]; then
  not_run 'marty policy check' "there is no $policy"
elif [ ! -f "$marty" ]; then
  not_run 'marty policy check' 'not compiled; run "npm run build"'
else
  status=0
  node "$marty" policy check "$policy" --json > "$work/policy" 2> "$work/policy.err" || status=$?
  if [ "$status" -ne 0 ] && [ "$status" -ne 3 ]; then not_run 'marty policy check' "ended with $status"; else record 'marty policy check' policy "$status"; fi
fi

printf '%-22s%-10s%s\n' SCANNER FINDINGS RAN
while IFS=$'\t' read -r name ran findings; do printf '%-22s%-10s%s\n' "$name" "$findings" "${ran% }"; done < "$rows"
if [ -s "$details" ]; then
  printf '\n'
  cat "$details"
fi

if [ "$found" -gt 0 ]; then exit 1; fi
if [ "$strict" = true ] && [ "$missed" -gt 0 ]; then exit 3; fi
