// Charts over time: counts of a release and versions of a project, by hour for two weeks and by day for a year. Lines
// as SVG, and the same numbers in a table.

import { api, exports, h, moment, number, s, t } from './base.js';

const STATES = ['offered', 'downloading', 'delivered', 'sent', 'waiting', 'confirmed', 'silent', 'reverted', 'held'];
const UNITS = { hours: 3600e3, days: 86400e3 };
const LINES = 5;
const WIDTH = 600;
const HEIGHT = 160;
const FRESH = 60e3;

/** Replies, chosen spans and the function that draws the chart shown, by path: a card is redrawn whenever its numbers
 * change. */
const kept = new Map();
let ids = 0;

/** Folded chart. `name` is its key; `list` and `query` select what is read and exported; `read` turns a reply into
 * `{ times, lines }`, for hours or days. `refresh` of the element reads data again that is older than a minute. */
function foldedChart(name, words, title, list, query, read) {
  const path = list + (query.length ? '?limit=500&' + new URLSearchParams(query) : '');
  const body = h('div.history', {});
  const known = kept.get(path) || { reply: null, at: 0, span: 'hours' };
  kept.set(path, known);
  const draw = () => {
    if (known.error) body.replaceChildren(h('p.small', {}, known.error));
    if (!known.reply) return;
    const table = body.querySelector('[data-key=table]');
    body.replaceChildren(...chart(title, known, read, draw), exports(list, () => query));
    const again = body.querySelector('[data-key=table]');
    if (again && table) again.open = table.open;
  };
  const load = async () => {
    if (Date.now() - known.at < FRESH) return;
    known.at = Date.now();
    const before = JSON.stringify(known.reply);
    try {
      [known.reply, known.error] = [await api('GET', path), ''];
    } catch (error) {
      [known.at, known.reply, known.error] = [0, null, error.message];
    }
    // The card may have been redrawn meanwhile.
    if (JSON.stringify(known.reply) !== before || known.error) known.draw();
  };
  known.draw = draw;
  draw();
  const box = h('details', { 'data-key': name }, h('summary', {}, words), body);
  box.refresh = () => { if (box.open) load(); };
  box.ontoggle = box.refresh;
  return box;
}

/** Chart of the counts of a release. */
export function ofRelease(release) {
  const path = ['releases', release.project, release.version, 'history'].map(encodeURIComponent).join('/');
  return foldedChart('history', t('overTime'), t('chartOf', release.project + ' ' + release.version), path, [], (reply, span) => {
    // The last row has the numbers shown beside the chart.
    const rows = [...reply[span], { ...reply.now, ...release.counts }];
    return {
      times: rows.map((row) => row.time),
      lines: STATES.map((state) => ({ key: state, name: t(state), kind: state, values: rows.map((row) => row[state]) })),
    };
  });
}

/** Chart of the versions that the devices of a project run: the most frequent ones, and the sum of the others. */
export function ofProject(project) {
  return foldedChart('versions', t('runningVersions'), t('versionsOf', project), 'versions', [['project', project]], (reply, span) => {
    const lines = reply.versions.map((version) => ({ key: version.version, name: version.version, href: '#/devices?' + new URLSearchParams({ project, version: version.version }), values: [...version[span], version.devices] }));
    const most = (line) => Math.max(...line.values);
    lines.sort((a, b) => most(b) - most(a));
    const others = lines.splice(LINES);
    if (others.length) {
      const sum = (at) => others.reduce((all, line) => all + (line.values[at] || 0), 0);
      lines.push({ key: '', name: t('otherVersions', number(others.length)), values: others[0].values.map((_, at) => sum(at)) });
    }
    return { times: [...reply[span], null], lines: lines.map((line, at) => ({ ...line, kind: 'nr' + at })) };
  });
}

function chart(title, known, read, redraw) {
  const { span } = known;
  const unit = UNITS[span];
  const { times, lines: all } = read(known.reply, span);
  // The count of a day is that at its end; the last row is the current state.
  const now = Date.now();
  const moments = times.map((time, at) => (at === times.length - 1 ? now : Math.min(now, Date.parse(time) + (span === 'days' ? unit : 0))));
  const lines = all.filter((line) => line.values.some((value) => value > 0));
  const choice = (name, words) => h('button', {
    type: 'button', 'data-key': name, 'aria-pressed': String(name === span),
    onclick: (event) => {
      const { parentElement } = event.currentTarget.closest('.history');
      known.span = name;
      redraw();
      parentElement.querySelector(`[data-key=${name}]`).focus();
    },
  }, words);
  const spans = h('div.acts', {}, choice('hours', t('twoWeeks')), choice('days', t('oneYear')));
  if (times.length < 2 || !lines.length) return [spans, h('p.small', {}, t('noHistory'))];
  const from = moments[0];
  const top = Math.max(...lines.flatMap((line) => line.values));
  const x = (at) => ((WIDTH * (moments[at] - from)) / (now - from || 1)).toFixed(1);
  const y = (value) => (HEIGHT - 4 - ((HEIGHT - 8) * value) / top).toFixed(1);
  const path = (values) => {
    let drawn = '';
    let last = null;
    values.forEach((value, at) => {
      if (value === null || value === undefined) return;
      // A missing sample leaves a gap in the line; a single sample is a dot.
      const joined = last !== null && moments[at] - moments[last] < 1.5 * unit;
      drawn += joined ? `L${x(at)} ${y(value)}` : `M${x(at)} ${y(value)}h0`;
      last = at;
    });
    return drawn;
  };
  const label = (time) => (time === null ? t('now') : moment(time, span === 'days'));
  const first = (line) => line.values.find((value) => value !== null) ?? 0;
  const last = (line) => line.values[line.values.length - 1];
  ids += 1;
  const [name, text] = ['title', 'desc'].map((part) => `chart-${part}-${ids}`);
  const words = title + (span === 'days' ? ', ' + t('oneYear') : ', ' + t('twoWeeks'));
  const drawing = s('svg', { class: 'lines', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img', 'aria-labelledby': name + ' ' + text },
    s('title', { id: name }, words),
    s('desc', { id: text }, t('chartFrom', label(times[0])) + lines.map((line) => `${line.name} ${number(first(line))} → ${number(last(line))}`).join('; ')),
    s('path', { class: 'grid', d: `M0 4H${WIDTH}M0 ${HEIGHT / 2}H${WIDTH}M0 ${HEIGHT - 4}H${WIDTH}` }),
    ...lines.map((line) => s('path', { class: 'line kind-' + line.kind, 'data-series': line.key, d: path(line.values) })));
  const cells = (at) => lines.map((line) => h('td', {}, line.values[at] === null ? '–' : number(line.values[at])));
  const order = times.map((_, at) => times.length - 1 - at);
  return [spans,
    h('div.axis', { 'aria-hidden': 'true' }, h('span', {}, number(top))), drawing,
    h('div.axis', { 'aria-hidden': 'true' }, h('span', {}, label(times[0])), h('span', {}, t('now'))),
    h('ul.legend', {}, lines.map((line) => h('li', {}, s('svg', { class: 'key', viewBox: '0 0 24 6', 'aria-hidden': 'true' }, s('path', { class: 'line kind-' + line.kind, d: 'M1 3H23' })), h(line.href ? 'a' : 'span', line.href ? { href: line.href } : {}, h('b', {}, number(last(line))), ' ' + line.name)))),
    h('details', { 'data-key': 'table' }, h('summary', {}, t('asTable')),
      h('div.scroll', { tabindex: 0, role: 'region', 'aria-label': words },
        h('table', {}, h('caption.visually-hidden', {}, words),
          h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, t('time')), lines.map((line) => h('th', { scope: 'col' }, line.name)))),
          h('tbody', {}, order.map((at, row) => h('tr', {}, h('th', { scope: 'row' }, row ? label(times[at]) : t('now')), cells(at)))))))];
}
