// Releases: contents of the folder with their rules and progress, quarantined files with the reasons. Also the first
// page that a new user sees.

import { api, button, bytes, exports, h, icon, number, reconcile, s, said, t, toast } from './base.js';
import * as history from './history.js';
import { link, name, one, pause, percent, resume } from './rules.js';

const STATES = ['confirmed', 'waiting', 'delivered', 'sent', 'downloading', 'offered', 'silent', 'reverted'];
const SHOWN = 2;
/** Number of releases of a project that a wide screen shows, as rows of a table. */
const ROWS = 10;
const wide = matchMedia('(min-width: 1280px)');
const PAGES = 6;

const matches = (release, text) => name(release).toLowerCase().includes(text.toLowerCase());

/** Link to the devices of a filter. */
const devicesOf = (filter) => '#/devices?' + new URLSearchParams(filter);

/** States of the project's devices towards a release, as a bar and in words. */
export function bar({ project, version, counts, devices }) {
  const some = STATES.filter((state) => counts[state] > 0);
  // Forgotten devices are still counted as updated.
  const whole = Math.max(devices, some.reduce((sum, state) => sum + counts[state], 0));
  if (!whole) return h('p.small', {}, t('nobodyYet'));
  const words = t('updatedOf', number(counts.confirmed), number(whole));
  return h('div', {},
    h('p.small.updated', {}, h('a', { href: devicesOf({ project }), 'data-key': 'all' }, words)),
    h('div.bar', { role: 'progressbar', 'aria-label': words, 'aria-valuemin': 0, 'aria-valuenow': counts.confirmed, 'aria-valuemax': whole }, some.map((state) => {
      const part = h('i.' + state, {});
      part.style.flexGrow = counts[state] / whole;
      return part;
    })),
    !some.length && h('p.small', {}, t('nobodyYet')),
    h('ul.legend', { 'aria-label': t('standing') }, some.map((state) =>
      h('li', {}, h('i.swatch.' + state, { 'aria-hidden': 'true' }), h('a', { href: devicesOf({ project, to: version, state }), 'data-key': 'of-' + state }, h('b', {}, number(counts[state])), ' ' + t(state))))));
}

/** Counts of all servers, if they share outcomes. */
const everywhere = ({ fleet }) => fleet && h('p.small', {}, t('allServers', number(fleet.confirmed), number(fleet.reverted), number(fleet.silent)));

/** Devices that a release is for, and conditions that its state does not show. */
function audience(release) {
  const shown = ['paused', 'held_back', { rolling_out: 'percent', windowed: 'window', scheduled: 'not_before' }[release.state]];
  return [release.for[0], ...release.conditions.filter((condition) => !shown.includes(condition.key)).map((condition) => condition.text)]
    .map((text, at) => [at ? ' · ' : '', said(text)]);
}

const state = (release) => h('span.state.' + release.state, {}, t('is_' + release.state, release.percent));

/** Actions of a release; `more` replaces the link to its page. */
const actions = (release, again, more) => release.writable && h('div.acts', {},
  ['paused', 'fused'].includes(release.state) ? button('resume', 'resume', t('resume'), () => resume(release, again)) : button('pause', 'pause', t('pause'), () => pause(release, again)),
  button('percent', 'percent', t('setPercent'), () => percent(release, again)),
  more || h('a.button', { href: link(release), 'data-key': 'rules' }, t('rules')));

/** Table of the releases of a project. */
function rows(project, some, again, table) {
  const head = (words) => h('th', { scope: 'col' }, words);
  const element = table || h('table.wide-table', {}, h('caption.visually-hidden', {}, t('releases') + ' ' + project),
    h('thead', {}, h('tr', {}, head(t('tReleases')), head(t('stateIs')), head(t('forWhom')), STATES.map((one) => head(t(one))), head(t('tDevices')), head(t('actions')))), h('tbody', {}));
  reconcile(element.lastChild, some, (release) => release.version, (release) => h('tr', { 'data-drop': JSON.stringify({ project, version: release.version }) },
    h('th', { scope: 'row' }, h('a', { href: link(release), 'data-key': 'page' }, release.version)), h('td', {}, state(release)),
    h('td', {}, release.reason && release.state !== 'rolling_out' && h('p.reason', {}, said(release.reason)), h('span.small', {}, audience(release)), authors(release), everywhere(release)),
    STATES.map((one) => h('td.n', {}, number(release.counts[one]))), h('td.n', {}, number(release.devices)), h('td', {}, actions(release, again))));
  return element;
}

/** Names of those who paused and uploaded a release. */
function authors(release) {
  const by = [
    release.paused_by && release.state === 'paused' && t('pausedBy', release.paused_by),
    release.published_by && t('publishedBy', release.published_by)].filter(Boolean);
  return by.length > 0 && h('p.small', {}, by.join(' · '));
}

/** Card of a release; `more`: the actions of its own page, instead of the link to it. */
function card(release, again, more = null) {
  const packages = release.packages;
  const acts = actions(release, again, more);
  return h('article.card', { 'data-drop': JSON.stringify({ project: release.project, version: release.version }), 'aria-label': name(release) },
    h('div.head', {}, h(more ? 'h2' : 'h3', {}, release.version),
      state(release),
      h('span.small', {}, bytes(packages.reduce((sum, p) => Math.max(sum, p.size), 0)))),
    release.reason && release.state !== 'rolling_out' && h('p.reason', {}, said(release.reason)),
    authors(release),
    h('p.whom', {}, audience(release)),
    release.stage && said(release.stage.text, 'p.small'),
    bar(release), everywhere(release),
    release.unknown && said(release.unknown, 'p.small'),
    history.ofRelease(release),
    h('div.row', {}, acts,
      h('details', { 'data-key': 'packages' }, h('summary', {}, t('packages', packages.length)),
        h('ul.packages', {}, packages.map((p) => h('li', {},
          h('code', {}, p.path), h('span.small', {}, [bytes(p.size), said(p.kind).textContent, p.platform, p.base_core && t('baseCore', p.base_core)].filter(Boolean).join(' · ')),
          h('code.small', { title: 'SHA-256' }, p.sha256)))),
        Object.keys(release.rules || {}).length > 0 && h('pre', { tabindex: 0, 'aria-label': 'release.json' }, JSON.stringify(release.rules, null, 1)))));
}

function remarks(kind, list, count) {
  const lines = (some) => h('ul.files', {}, some.map((entry) => h('li', {}, h('code', {}, entry.path ?? entry), (entry.reason || entry.text) && said(entry.reason || entry.text))));
  return h('section.' + kind, {}, h('h2', {}, kind === 'quarantined' && icon('warn'), t(kind === 'waiting' ? 'beingRead' : kind, number(count))), lines(list.slice(0, 6)),
    count > 6 && h('details', { 'data-key': kind }, h('summary', {}, t('rest', number(count - 6))), lines(list.slice(6)),
      count > list.length && h('p.small', {}, t('notListed', number(count - list.length)))));
}

/** Picture of a file that is put into a folder, and of a module that receives it. */
function picture() {
  const path = (d, kind) => s('path', { d, class: kind || '' });
  return s('svg', { class: 'picture', viewBox: '0 0 320 150', 'aria-hidden': 'true' },
    path('M20 66v58a8 8 0 0 0 8 8h96a8 8 0 0 0 8-8V70a8 8 0 0 0-8-8H82L70 48H28a8 8 0 0 0-8 8z', 'soft'),
    path('M56 10h28l14 14v42H56zM84 10v14h14', 'sheet'), path('M76 36v20m-8-8 8 8 8-8', 'accent'),
    path('M20 88h112', ''), path('M150 96h34m0 0-6-5m6 5-6 5', 'accent'),
    path('M205 132l15-70 15 70M209 112h22M212 96h16', ''), path('M208 56a16 16 0 0 1 0-22M232 56a16 16 0 0 0 0-22M200 64a28 28 0 0 1 0-38M240 64a28 28 0 0 0 0-38', 'accent'), path('M220 45v.1', 'dot'),
    path('M266 84h32v32h-32zM276 94h12v12h-12zM274 76v8m8-8v8m8-8v8m-16 32v8m8-8v8m8-8v8M258 92h8m-8 8h8m-8 8h8m32-16h8m-8 8h8m-8 8h8', ''));
}

function empty() {
  const step = (n, ...rows) => h('li', {}, h('h3', {}, t('first' + n)), ...rows);
  const url = `http://${location.hostname === '127.0.0.1' || location.hostname === 'localhost' ? 'ota.example.com' : location.hostname}:8080/luat/update?`;
  return h('section.empty', {}, picture(), h('h2', {}, t('emptyTitle')), h('p', {}, t('emptyText')),
    h('ol', {},
      step(1, h('p', {}, t('first1Text')), h('pre', { tabindex: 0 }, 'firmware/ALIYUN/2.0.1/update.bin'), h('p', {}, h('a.primary', { href: '#/drop' }, icon('drop'), t('dropHere')))),
      step(2, h('p', {}, t('first2Text')), h('pre', { tabindex: 0 }, `libfota2.request(cb, {url = "${url}"})`)),
      step(3, h('p', {}, t('first3Text')), h('p', {}, h('a', { href: '#/live' }, t('live')), ' · ', h('a', { href: '#/explain' }, t('explain'))))));
}

/** Reads files that are not served or look wrong: at most PAGES pages, and their number. */
async function notServed() {
  let all = null;
  for (let page = 0, after = ''; page < PAGES && after !== null; page += 1) {
    const part = await api('GET', 'quarantine?limit=500' + (after && '&after=' + encodeURIComponent(after)));
    if (all) for (const list of ['quarantined', 'warnings', 'ignored', 'waiting']) part[list] = all[list].concat(part[list]);
    all = part;
    after = part.next;
  }
  return all;
}

export function show(main, route, context) {
  if (route.id) return one(main, route.id, context, card);
  const tiles = h('dl.tiles', {});
  const filter = h('input', { type: 'search', id: 'filter', placeholder: t('filter'), 'aria-label': t('filter'), autocomplete: 'off', spellcheck: 'false' });
  const problems = h('div', {});
  const list = h('div.projects', {});
  const more = h('div.more', {});
  const rest = h('div', {});
  main.append(h('div.title', {}, h('h1', {}, t('releases')), exports('releases'), filter), tiles, problems, list, more, rest);

  let releases = null;
  let next = null;
  let known = null;
  let files = { quarantined: [], warnings: [], ignored: [], waiting: [], counts: {} };
  let busy = false;
  let again = false;
  let gone = false;
  /** Number of pages to read. */
  let wanted = 1;
  let soon = null;

  function project([title, all], was) {
    const element = was || h('section.project', { 'data-drop': JSON.stringify({ project: title }) }, h('div', {}, h('h2', {}, title), history.ofProject(title)), h('div.cards', {}),
      h('details.older', { 'data-key': 'older' }, h('summary', {}), h('div.cards', {})));
    const older = element.lastChild;
    element.firstChild.lastChild.refresh();
    const most = wide.matches ? ROWS : SHOWN;
    const cards = (box, some) => reconcile(box, some, (release) => release.version, (release) => card(release, load));
    if (wide.matches) reconcile(element.children[1], [all.slice(0, most)], () => 'table', (some, table) => rows(title, some, load, table));
    else cards(element.children[1], all.slice(0, most));
    cards(older.lastChild, all.slice(most));
    older.hidden = all.length <= most;
    older.firstChild.textContent = t('older', all.length - most);
    return element;
  }

  function draw() {
    if (gone || !releases) return;
    const { summary } = context;
    filter.hidden = releases.length < 4;
    const writable = !summary || summary.writable;
    const searched = filter.value.trim();
    const projects = new Map();
    for (const release of releases) {
      if (!matches(release, searched)) continue;
      if (!projects.has(release.project)) projects.set(release.project, []);
      projects.get(release.project).push({ ...release, writable });
    }
    const nothing = !releases.length && !files.quarantined.length && !files.waiting.length;
    tiles.hidden = nothing || !summary;
    if (summary) {
      reconcile(tiles, [['devices', 'tDevices', '#/devices'], ['running', 'tRunning', '#/live'], ['releases', 'tReleases', ''], ['quarantined', 'tQuarantined', '']].map((row) => [...row, summary[row[0]]]), (row) => row[0],
        ([key, words, href, n]) => h('div.tile' + (key === 'quarantined' && n ? '.bad' : ''), {}, h('dt', {}, t(words)), h('dd', {}, href ? h('a', { href, 'data-key': key }, number(n)) : number(n))));
    }
    reconcile(problems, [
      summary && !summary.writable && { id: 'readonly' },
      ...(summary ? summary.above : []).map((above) => ({ id: 'above ' + above.project + ' ' + above.version, above })), listed('waiting'), listed('quarantined')].filter(Boolean), (part) => part.id,
    (part) => (part.above ? h('p.note', {}, icon('warn'), h('a', { href: devicesOf({ project: part.above.project, version: part.above.version }) }, t('above', number(part.above.devices), part.above.project, part.above.version))) : part.id === 'readonly' ? h('p.note', {}, icon('lock'), t('readonly')) : remarks(part.id, part.list, part.count)));
    if (nothing) reconcile(list, [['', 'empty']], () => 'empty', empty);
    else reconcile(list, [...projects].map((entry) => [...entry, wide.matches]), (entry) => entry[0], project);
    more.replaceChildren(...(next ? [button('more', null, t('more'), () => { wanted += 1; load(); })] : []));
    reconcile(rest, [listed('warnings'), listed('ignored')].filter(Boolean), (part) => part.id,
      (part) => h('details', { 'data-key': part.id }, h('summary', {}, t(part.id, number(part.count))), h('div.rest', {}, remarks(part.id, part.list, part.count))));
  }

  /** One of the lists of files, to be drawn; false if it is empty. */
  const listed = (id) => files.counts[id] > 0 && { id, list: files[id], count: files.counts[id] };

  function news() {
    const now = new Set(releases.map(name));
    const fresh = known && [...now].filter((one) => !known.has(one));
    if (fresh && fresh.length) toast(t('fresh', fresh.slice(0, 3).join(', ')));
    known = next ? null : now;
  }

  /** Reloads all pages that are shown, and the project in the filter. Requests during a load cause one further load
   * after it. */
  async function load() {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const pages = [];
      let cursor = null;
      let count = 0;
      do {
        const page = await api('GET', 'releases?limit=200' + (cursor ? '&after=' + encodeURIComponent(cursor) : ''));
        pages.push(...page.releases);
        cursor = page.next;
        count += 1;
      } while (cursor && count < wanted);
      const project = filter.value.trim();
      if (cursor && project && !pages.some((release) => matches(release, project))) {
        pages.push(...(await api('GET', 'releases?project=' + encodeURIComponent(project))).releases);
      }
      files = await notServed();
      releases = pages;
      next = cursor;
      news();
      draw();
    } catch (error) {
      if (!gone && !releases) list.replaceChildren(h('p.note', {}, icon('warn'), error.message));
    }
    busy = false;
    if (again && !gone) { again = false; load(); }
  }

  filter.oninput = draw;
  wide.addEventListener('change', draw);
  filter.onchange = () => { if (next && !list.children.length) load(); };
  load();
  let ticks = 0;
  return {
    tick: () => { ticks += 1; if (!context.streaming || ticks % 3 === 0) load(); else draw(); },
    onEvent: (kind) => {
      if (kind === 'catalog') load();
      else soon ||= setTimeout(() => { soon = null; load(); }, 2000);
    },
    leave: () => { gone = true; clearTimeout(soon); wide.removeEventListener('change', draw); },
  };
}
