#pragma once

namespace lowrank::app {

/// The style sheet of every page. The curves' colours are told apart with any colour vision (after
/// Okabe and Ito's palette), and texts have a contrast of at least 4.5 to 1 in both themes, which
/// tests/app/pages/style_test.cc computes.
inline constexpr const char* kPageStyle = R"(
:root { color-scheme: light dark;
  --paper: #ffffff; --ink: #1b1f23; --soft: #57606a; --faint: #d0d7de; --panel: #f6f8fa;
  --good: #00684a; --bad: #a32a00; --more: #d55e00; --less: #0072b2;
  --curve-0: #0072b2; --curve-1: #c44e00; --curve-2: #00785a; --curve-3: #a0467a;
  --curve-4: #5a35e6; --curve-5: #40434a; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #14171a; --ink: #e6e9ec; --soft: #a7b0ba; --faint: #3a424a; --panel: #1d2226;
  --good: #4fd1a5; --bad: #ff9b73; --more: #c25a0a; --less: #2b7fb8;
  --curve-0: #5ab4e6; --curve-1: #f08a3c; --curve-2: #3fc79a; --curve-3: #e28ac0;
  --curve-4: #e0bf3a; --curve-5: #c3c8ce; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; line-height: 1.25; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 0.6rem; padding-top: 0.6rem;
  border-top: 1px solid var(--faint); }
h3 { font-size: 1.05rem; margin: 1.4rem 0 0.4rem; overflow-wrap: anywhere; }
p { overflow-wrap: anywhere; max-width: 46rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9rem; }
th, td { padding: 0.2rem 0.6rem; text-align: right; border-bottom: 1px solid var(--faint); }
th:first-child, td:first-child { text-align: left; }
th { color: var(--soft); font-weight: 600; }
details { margin: 0.6rem 0; }
summary { cursor: pointer; color: var(--soft); overflow-wrap: anywhere; }
figure { margin: 1rem 0; }
figcaption { font-weight: 600; margin-bottom: 0.3rem; overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: auto; max-width: 44rem; color: var(--ink); }
svg text { fill: var(--ink); }
.legend { margin: 0 0 0.3rem; font-size: 0.9rem; }
.legend span { margin-right: 1.2rem; white-space: nowrap; }
.curve { display: inline-block; width: 1.6rem; height: 0; margin-right: 0.4rem;
  vertical-align: middle; border-top: 3px solid; }
.c0 { --colour: var(--curve-0); } .c1 { --colour: var(--curve-1); }
.c2 { --colour: var(--curve-2); } .c3 { --colour: var(--curve-3); }
.c4 { --colour: var(--curve-4); } .c5 { --colour: var(--curve-5); }
.curve { border-color: var(--colour); }
.curve.c1, .curve.c3, .curve.c5 { border-top-style: dashed; }
.curve.dotted { border-top-style: dotted; }
.bar { display: inline-block; height: 0.8rem; width: calc(var(--length) * 0.6); margin-right: 0.4rem; vertical-align: -0.08rem; background: var(--colour); }
.bars td { text-align: left; min-width: 9rem; }
.bars th { text-align: left; }
.bars td:first-child { min-width: 0; }
.texts td, .texts th { text-align: left; vertical-align: top; }
.beside { display: flex; flex-wrap: wrap; gap: 1rem 2rem; overflow-x: auto; }
.heat { font-size: 0.78rem; }
.heat th, .heat td { padding: 0.12rem 0.35rem; border: 0; text-align: right; }
.heat td.more { background: color-mix(in srgb, var(--more) calc(var(--shade) * var(--strength, 0.45)), var(--paper)); }
.heat td.less { background: color-mix(in srgb, var(--less) calc(var(--shade) * var(--strength, 0.45)), var(--paper)); }
.shades { border: 1px solid var(--faint); }
.shades td { width: 0.7rem; height: 0.7rem; padding: 0; border: 0; }
.heat.shades td.more, .heat.shades td.less { --strength: 1; }
.areas svg { width: 9rem; }
.areas figcaption { font-weight: 400; font-size: 0.85rem; max-width: 9rem; }
.image { width: 7rem; margin: 0.4rem 0; }
.image img { width: 6rem; image-rendering: pixelated; border: 1px solid var(--faint); }
.image figcaption { font-weight: 400; font-size: 0.8rem; }
footer { margin-top: 3rem; color: var(--soft); font-size: 0.85rem; }
@media print { details > * { display: block; } body { font-size: 11pt; } h2 { break-after: avoid; }
  figure, tr { break-inside: avoid; } }
)";

}  // namespace lowrank::app
