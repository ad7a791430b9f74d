// The style sheet of the page. Inside the page, so that the file needs nothing beside it.
#ifndef RMJ_SERVICE_GATE_PAGE_STYLE_H
#define RMJ_SERVICE_GATE_PAGE_STYLE_H

// Line colours after Okabe and Ito (2008), which colour-blind people tell apart, darkened or lightened for the ground.
static const char page_style[] =
    ":root{color-scheme:light dark;--ground:#fff;--card:#f6f7f9;--ink:#1c2026;--dim:#5c6570;--rule:#d9dde3;"
    "--chosen:#0072b2;--rejected:#d55e00;--kept:#009e73;--good:#00734f;--bad:#b3261e;--warn:#8a5a00;"
    "--c0:#0072b2;--c1:#d55e00;--c2:#009e73;--c3:#b2508c;--c4:#9a7200;--c5:#3a92c4;--c6:#5b5ea6;--c7:#6b6b6b}\n"
    "@media(prefers-color-scheme:dark){:root{--ground:#14171b;--card:#1d2127;--ink:#e6e9ed;--dim:#9aa4b0;--rule:#"
    "353c46;"
    "--chosen:#56b4e9;--rejected:#f0883e;--kept:#2fbf95;--good:#4cc79c;--bad:#ff8a80;--warn:#e6b450;"
    "--c0:#56b4e9;--c1:#f0883e;--c2:#2fbf95;--c3:#e08cc0;--c4:#e6c84f;--c5:#8fd0ff;--c6:#a5a8f0;--c7:#b0b0b0}}\n"
    "*{box-sizing:border-box}body{margin:0 auto;padding:20px 16px 48px;max-width:1180px;background:var(--ground);"
    "color:var(--ink);font:15px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}\n"
    "h1{font-size:1.5em;line-height:1.25;margin:.2em 0}h2{font-size:1.15em;margin:2.2em 0 .6em;padding-bottom:.2em;"
    "border-bottom:1px solid var(--rule)}h3{font-size:1em;margin:0 0 .4em}h4{font-size:.9em;margin:1em 0 .3em;"
    "color:var(--dim);font-weight:600}p{margin:.3em 0 .8em;max-width:75ch}.dim,small{color:var(--dim)}\n"
    ".cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:10px;margin:1em 0}"
    ".card{background:var(--card);border-radius:6px;padding:10px 12px}.card b{display:block;font-size:1.35em;"
    "line-height:1.3}.card span{color:var(--dim);font-size:.87em}\n"
    ".wide{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(320px,100%),1fr));gap:14px}"
    ".two{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(320px,100%),1fr));gap:14px}.box{background:var("
    "--card);border-radius:6px;padding:14px}\n"
    ".good{color:var(--good)}.bad{color:var(--bad)}.warn{color:var(--warn)}.verdict{font-weight:700}\n"
    "svg{display:block;width:100%;height:auto}svg.bar{height:22px;border-radius:4px}svg.share{height:16px}svg "
    "text{font:11px system-ui,sans-serif;fill:var(--dim)}"
    "svg .e{text-anchor:end}svg .m{text-anchor:middle}.grid{stroke:var(--rule);stroke-width:1}"
    ".mark{stroke:var(--dim);stroke-width:1;stroke-dasharray:3 3}.track{fill:var(--rule)}\n"
    ".chosen{fill:var(--chosen);background:var(--chosen)}.rejected{fill:var(--rejected);background:var(--rejected)}"
    ".kept{fill:var(--kept);background:var(--kept)}.d0{fill:var(--c4);background:var(--c4)}"
    ".d1{fill:var(--c1);background:var(--c1)}.d2{fill:var(--c3);background:var(--c3)}"
    ".d3{fill:var(--c7);background:var(--c7)}\n"
    ".line{fill:none;stroke-width:1.8}.band{opacity:.16;stroke:none}"
    ".s0{--s:var(--c0)}.s1{--s:var(--c1)}.s2{--s:var(--c2)}.s3{--s:var(--c3)}.s4{--s:var(--c4)}.s5{--s:var(--c5)}"
    ".s6{--s:var(--c6)}.s7{--s:var(--c7)}.line{stroke:var(--s)}.band,.dot{fill:var(--s)}i.key{background:var(--s);"
    "display:inline-block;width:.8em;height:.8em;border-radius:2px;margin-right:.5em}\n"
    ".legend{list-style:none;display:flex;flex-wrap:wrap;gap:2px 16px;margin:.5em 0 0;padding:0;font-size:.9em}"
    ".legend i{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin-right:.4em}\n"
    ".scroll{overflow-x:auto}.two+.scroll{margin-top:14px}table{border-collapse:collapse;width:100%;font-size:.9em}th,"
    "td{text-align:left;"
    "padding:4px 14px 4px 0;border-bottom:1px solid var(--rule);vertical-align:top}th{color:var(--dim);font-weight:600}"
    ".n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}td{min-width:9em}td.n{min-width:0}"
    "code{font:.93em ui-monospace,monospace}\n"
    "@media(max-width:520px){body{padding:14px 10px 40px;font-size:14px}th,td{padding-right:9px}"
    ".cards{grid-template-columns:repeat(2,1fr)}}\n"
    "@media print{.box,.card{border:1px solid var(--rule)}}\n";

#endif
