"""The HTML document around a page: one template and one style sheet, without external files."""

import string

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --card: #f6f7f9; --ink: #1c2128; --soft: #59626e; --line: #dfe3e8; --shade: #1c212855;
  --good: #17704a; --bad: #a8410c; --tint: #0b7ad114;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #101418; --card: #181d23; --ink: #e4e8ec; --soft: #9aa5b1; --line: #2c343d; --shade: #000000d0;
    --good: #5fc797; --bad: #f0935a; --tint: #4aa3e826;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 3rem clamp(1rem, 4vw, 3rem) 4rem; max-width: 80rem;
  background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  overflow-wrap: break-word;
}
h1 { font-size: 1.05rem; font-weight: 600; color: var(--soft); margin: 0 0 .6rem; }
h2 { font-size: 1.25rem; font-weight: 650; margin: 3.2rem 0 .8rem; }
h3 { font-size: 1rem; font-weight: 600; margin: 1.6rem 0 .5rem; }
.headline {
  font-size: clamp(1.25rem, 1rem + 1vw, 1.65rem); line-height: 1.3; font-weight: 620;
  letter-spacing: -.012em; margin: 0 0 .8rem; max-width: 60rem; text-wrap: balance;
}
.notes { margin: 0 0 1rem; padding: 0; list-style: none; color: var(--soft); max-width: 56rem; font-size: .92rem; }
.notes li { padding-left: 1.1rem; text-indent: -1.1rem; }
.notes li::before { content: "–"; display: inline-block; width: 1.1rem; text-indent: 0; }
.scroll {
  overflow-x: auto; margin: 0 0 1.2rem;  /* a shadow at the side with hidden content; the covers scroll along */
  background:
    linear-gradient(to right, var(--paper) 1.4rem, transparent 2.6rem) 0 / 2.6rem 100% no-repeat local,
    linear-gradient(to left, var(--paper) 1.4rem, transparent 2.6rem) 100% / 2.6rem 100% no-repeat local,
    linear-gradient(to right, var(--shade), transparent) left 1px top / 1.1rem 100% no-repeat,
    linear-gradient(to left, var(--shade), transparent) right 1px top / 1.1rem 100% no-repeat;
}
table { border-collapse: separate; border-spacing: 0; font-size: .875rem; line-height: 1.35; }
.wide { width: 100%; }
caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
th, td { text-align: left; vertical-align: top; padding: .5rem .9rem .5rem 0; font-variant-numeric: tabular-nums; }
th:last-child, td:last-child { padding-right: .2rem; }
thead th { font-weight: 500; color: var(--soft); vertical-align: bottom; padding-bottom: .4rem; }
thead th.n { white-space: normal; }
thead tr:last-child th, thead th[rowspan] { border-bottom: 1.5px solid var(--ink); }
thead th[colspan] { padding-bottom: 0; color: var(--ink); text-align: center; }
thead th[colspan] span { display: block; border-bottom: 1px solid var(--line); margin: 0 -.3rem 0 .6rem; }
thead th[colspan]:last-child span { margin-right: 0; }
tbody th { font-weight: 600; min-width: 8.6rem; }
tbody th, tbody td { border-bottom: 1px solid var(--line); }
th.n, td.n { text-align: right; white-space: nowrap; padding-left: .6rem; padding-right: .6rem; }
.n + :not(.n) { padding-left: .6rem; }
td small, th small { display: block; color: var(--soft); font-size: .76rem; font-weight: 400; white-space: nowrap; }
.best {
  font-weight: 700;
  background: linear-gradient(var(--tint), var(--tint)) center / calc(100% - .5rem) calc(100% - 4px) no-repeat;
}
.baseline th, .baseline td { font-weight: 400; color: var(--soft); padding-top: .32rem; padding-bottom: .32rem; }
.baseline.first th, .baseline.first td { border-top: 1.5px solid var(--ink); }
td.beaten small { color: var(--good); }
td.unbeaten, td.unbeaten small, td.failed { color: var(--bad); }
td.unbeaten, td.failed { font-weight: 600; }
.swatch { width: 2.1em; height: .75em; margin-right: .5em; vertical-align: -.02em; }
figure { margin: 1.2rem 0 0; break-inside: avoid; }
.panels { display: grid; gap: 1rem 1.5rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); }
.panels.large { grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); }
.panels svg { width: 100%; height: auto; max-width: 44rem; }
figcaption, .soft { color: var(--soft); font-size: .85rem; margin: .5rem 0 0; max-width: 60rem; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.4rem; margin: 0 0 .6rem; padding: 0; font-size: .875rem; }
.legend li { list-style: none; }
.beside { display: grid; gap: 1rem 1.5rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); }
.beside h3 { margin: .2rem 0 .6rem; }
.sample { background: var(--card); border-radius: 6px; padding: .8rem 1rem; margin: 0 0 .8rem; break-inside: avoid; }
.sample p { margin: 0 0 .4rem; color: var(--soft); font-size: .8rem; }
.sample b { font-weight: 700; text-decoration: underline; text-decoration-thickness: 1px; text-underline-offset: 3px; }
pre, code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; font-size: .82rem; }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.5; }
.command { background: var(--card); border-radius: 6px; padding: .6rem .9rem; margin: 0 0 .5rem; }
details { border-top: 1px solid var(--line); padding: .55rem 0; }
details:last-of-type { border-bottom: 1px solid var(--line); }
details > :last-child > :last-child { margin-bottom: .6rem; }
summary { cursor: pointer; font-weight: 550; }
summary + * { margin-top: .7rem; }
.beside details { border: 0 !important; padding: 0; }
@media print {
  :root { color-scheme: light; --paper: #fff; --card: #f6f7f9; --ink: #000; --soft: #444; --line: #ccc;
    --good: #17704a; --bad: #a8410c; --tint: #0b7ad114; }
  body { padding: 0; max-width: none; font-size: 10pt; }
  h2, h3, summary { break-after: avoid; }
  tr { break-inside: avoid; }
  table { font-size: 8pt; }
  td small, th small { font-size: 7pt; }
  th, td { padding-right: .5rem; }
  .scroll { overflow: visible; background: none; }
  .panels { grid-template-columns: 1fr 1fr 1fr; }
  .panels.large { grid-template-columns: 1fr 1fr; }
  details::details-content { content-visibility: visible; display: block; }
}
td[class*=heat] small { color: inherit; }
"""
# The shades of cells: heat0 is chance, heat10 is perfect.
STYLE += "".join(
    f".heat{i} {{ background: rgb(11 122 209 / {0.045 * i:.3f}); print-color-adjust: exact; }}\n" for i in range(1, 11)
)

PAGE = string.Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>
$body
</main>
</body>
</html>
""")
