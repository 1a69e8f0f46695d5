"""How the page looks, by day and by night, on a desk and in a hand."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fcfcfb; --ink: #1c1d1f; --soft: #5d6066; --rule: #e2e2df; --card: #f3f3f0;
  --c0: #2f6fb3; --c1: #c8553d; --c2: #3a8f5c; --c3: #8a5fb0;
  --c4: #b8860b; --c5: #3d9aa8; --c6: #b5477e; --c7: #6b7280;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #17181a; --ink: #e9e9e6; --soft: #a0a3a9; --rule: #33353a; --card: #212327;
    --c0: #74aef0; --c1: #f08b74; --c2: #74c796; --c3: #bd97e3;
    --c4: #e0b84c; --c5: #74cdd9; --c6: #ea86b6; --c7: #a6adb8;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0.5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2.5rem 0 0.5rem; }
.note, figcaption, .small { color: var(--soft); font-size: 0.85rem; }
.note { margin: 0.25rem 0; }
.small { padding-left: 1.1rem; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.35rem 0.75rem 0.35rem 0; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--rule); }
th { font-weight: 600; color: var(--soft); vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0;
  background: var(--paper); }
figure { margin: 0.5rem 0 1rem; }
.plots { display: grid; gap: 0 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); }
svg.plot { max-width: 30rem; height: auto; vertical-align: -3px; }
svg.plot[viewBox] { display: block; width: 100%; }
.plot text { fill: var(--ink); font-size: 11.5px; }
.plot text.tick { fill: var(--soft); font-size: 11px; }
.plot text.axis { fill: var(--soft); font-size: 12px; }
.plot .line { stroke-width: 2; }
.plot .grid { stroke: var(--rule); stroke-width: 1; }
.plot .s0 { stroke: var(--c0); } .plot .s1 { stroke: var(--c1); }
.plot .s2 { stroke: var(--c2); } .plot .s3 { stroke: var(--c3); }
.plot .s4 { stroke: var(--c4); } .plot .s5 { stroke: var(--c5); }
.plot .s6 { stroke: var(--c6); } .plot .s7 { stroke: var(--c7); }
.plot .mark.s0 { fill: var(--c0); } .plot .mark.s1 { fill: var(--c1); }
.plot .mark.s2 { fill: var(--c2); } .plot .mark.s3 { fill: var(--c3); }
.plot .mark.s4 { fill: var(--c4); } .plot .mark.s5 { fill: var(--c5); }
.plot .mark.s6 { fill: var(--c6); } .plot .mark.s7 { fill: var(--c7); }
.plot .mark { stroke: var(--paper); stroke-width: 1.5; }
.key { display: flex; flex-wrap: wrap; gap: 0.25rem 1rem; font-size: 0.9rem; margin: 0.25rem 0; }
section { border-top: 1px solid var(--rule); padding: 0.75rem 0; }
section > p { margin: 0 0 0.5rem; }
.row { display: flex; gap: 0.75rem; overflow-x: auto; }
.row figure { flex: 0 0 auto; margin: 0; width: min(11rem, 42vw); }
.row img { display: block; width: 100%; border-radius: 6px; background: var(--card); }
"""
