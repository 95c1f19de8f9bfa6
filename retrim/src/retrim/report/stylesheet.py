"""The style sheet: light and dark, wide and narrow, screen and paper, with the fonts of the reader's system."""

from __future__ import annotations

STYLE = """
:root{color-scheme:light dark;--page:#f6f6f3;--card:#fff;--ink:#16181d;--soft:#585d68;--line:#e2e2dc;--base:#a9aaa5;
--dense:#7d828c;--s0:#2a6fd0;--s1:#d9632b;--s2:#17936b;--s3:#8a5cd6;--s4:#b98400;--s5:#cc4480;--mark:#eef4fd;
--h0:#edf4fd;--h1:#cfe2fa;--h2:#a3c8f4;--h3:#6fa8ea;--h4:#2566bd;--h5:#123f7d;--low:#16181d;--high:#fff}
@media (prefers-color-scheme:dark){:root{--page:#131417;--card:#1b1d21;--ink:#eceef2;--soft:#a3a9b5;--line:#2e3138;
--base:#5c616c;--dense:#8f95a1;--s0:#5a9bf0;--s1:#ee8350;--s2:#35b48a;--s3:#a884ea;--s4:#d3a12a;--s5:#e56fa2;
--mark:#1f2a3b;--h0:#1a2739;--h1:#18365f;--h2:#1b4a89;--h3:#2263b8;--h4:#76aeee;--h5:#c3dcf9;--low:#f2f5fa;--high:#0f1722}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif;-webkit-text-size-adjust:100%}
main{max-width:1020px;margin:0 auto;padding:40px 24px 64px}
header{margin-bottom:24px}
h1{font-size:30px;line-height:1.2;letter-spacing:-.015em;margin:0 0 6px}
header p,.lead,.note,.key{color:var(--soft)}
header p{margin:0}
section{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:22px 24px;margin-top:16px}
h2{font-size:18px;line-height:1.3;margin:0 0 4px}
h2+*:not(.lead){margin-top:12px}
p{margin:0 0 14px}
dl,dd,figure{margin:0}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(220px,1fr));gap:18px 24px}
.tile dt{font-size:14px;color:var(--soft)}
.tile dd{font-size:32px;line-height:1.2;font-weight:600;letter-spacing:-.02em}
.tile dd.note{font-size:14px;line-height:1.5;font-weight:400;letter-spacing:0}
.scroll{overflow-x:auto;max-width:100%}
.scroll:focus-visible,summary:focus-visible{outline:2px solid var(--s0);outline-offset:2px;border-radius:4px}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
.data{width:100%;font-size:14px}
.data th,.data td{padding:8px 0 8px 14px;text-align:right;white-space:nowrap;border-top:1px solid var(--line)}
.data thead th{border-top:0;vertical-align:bottom;white-space:normal;line-height:1.3;color:var(--soft);font-weight:500}
.data th:first-child{text-align:left;padding-left:8px}
.data tbody th{font-weight:500}
.data th:last-child,.data td:last-child{padding-right:8px}
.data .marked>*{background:var(--mark)}
.data .marked>:first-child{border-radius:6px 0 0 6px}
.data .marked>:last-child{border-radius:0 6px 6px 0}
.words th:nth-child(2),.words td:nth-child(2){text-align:left}
details{margin-top:14px;font-size:14px}
summary{cursor:pointer;color:var(--soft);width:fit-content}
details .scroll{margin-top:8px}
.legend{display:flex;flex-wrap:wrap;gap:4px 20px;list-style:none;margin:0 0 14px;padding:0;font-size:14px}
.legend li{display:flex;align-items:center;gap:8px}
.legend svg{width:24px;height:12px;flex:none}
.wide svg,.narrow svg{display:block;width:100%;height:auto}
.narrow{display:none}
svg text{font-size:12.5px;fill:var(--soft);font-variant-numeric:tabular-nums}
svg .label{fill:var(--ink);font-size:14px}
svg .strong{fill:var(--ink);font-size:14px;font-weight:600}
svg .value{fill:var(--ink)}
svg .halo{paint-order:stroke;stroke:var(--card);stroke-width:4px;stroke-linejoin:round}
.end{text-anchor:end}.middle{text-anchor:middle}
.grid{stroke:var(--line);stroke-width:1}.base{stroke:var(--base);stroke-width:1}
.dense{--c:var(--dense)}.packed,.s0{--c:var(--s0)}.s1{--c:var(--s1)}.s2{--c:var(--s2)}.s3{--c:var(--s3)}
.s4{--c:var(--s4)}.s5{--c:var(--s5)}
.curve{fill:none;stroke:var(--c);stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.hollow,.hollow .curve{stroke-dasharray:10 4 1 4}
.dashed,.dashed .curve{stroke-dasharray:7 5}.dotted,.dotted .curve{stroke-dasharray:1 5}
.thin{stroke-width:1.5}
.raw{fill:none;stroke:var(--c);stroke-width:2.6;stroke-linecap:round;stroke-dasharray:none;opacity:.22}
.dot,.bar{fill:var(--c)}
.ring{stroke:var(--card);stroke-width:2}
.hollow .dot{fill:var(--card);stroke:var(--c);stroke-width:2.5;stroke-dasharray:none}
.key{font-size:14px;display:flex;align-items:center;gap:8px}
.ramp{display:flex;gap:2px}
.swatch{display:block;width:24px;height:12px;border-radius:3px;background:var(--h)}
.maps{display:grid;grid-template-columns:repeat(auto-fit,minmax(340px,1fr));gap:24px}
.map{min-width:0}
figcaption{font-size:14px;font-weight:600;margin-bottom:4px}
.heat{width:100%;border-collapse:separate;border-spacing:2px;font-size:13px}
.heat th{font-weight:500;color:var(--soft);text-align:left;padding:2px 8px 2px 0;white-space:nowrap}
.heat thead th+th{text-align:center;padding:2px 4px;white-space:normal;vertical-align:bottom;line-height:1.25}
.heat td{text-align:center;padding:7px 4px;border-radius:4px;background:var(--h);color:var(--t);min-width:44px}
.h0{--h:var(--h0);--t:var(--low)}.h1{--h:var(--h1);--t:var(--low)}.h2{--h:var(--h2);--t:var(--low)}
.h3{--h:var(--h3);--t:var(--low)}.h4{--h:var(--h4);--t:var(--high)}.h5{--h:var(--h5);--t:var(--high)}
.heat .absent{background:none;color:var(--soft)}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(240px,1fr));gap:10px 24px;font-size:14px}
.facts dt{color:var(--soft)}
.facts dd,.guide dd{overflow-wrap:anywhere}
.guide{display:grid;gap:10px;font-size:15px}
.guide div{display:grid;grid-template-columns:150px 1fr;gap:0 16px}
.guide dt{font-weight:600}.guide dd{color:var(--soft);max-width:64ch}
@media (max-width:600px){main{padding:24px 12px 40px}section{padding:18px 16px}h1{font-size:25px}
.wide{display:none}.narrow{display:block}.tiles{grid-template-columns:1fr 1fr;gap:16px}.tile dd{font-size:26px}
.tile dd.note{font-size:13px}.maps{grid-template-columns:1fr}.guide div{grid-template-columns:1fr}
.heat{font-size:12px}.heat thead th+th{padding:2px}
.data th:first-child{position:sticky;left:0;background:var(--card);white-space:normal;min-width:104px}
.data .marked>:first-child{background:var(--mark);border-radius:0}}
@media print{body{background:none}section{break-inside:avoid;border-color:#ccc}}
"""
