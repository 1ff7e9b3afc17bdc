// Live: current checks and downloads, from the event stream. Without the stream, the chart and the numbers
// are still updated every few seconds.

import { answerOrder, api, bytes, clock, h, icon, number, s, said, t } from './base.js';
import { progress } from './devices.js';

const KEPT = 150;
const LINGER = 6000;

/** Events received while any view was shown: the last checks, and the running downloads. */
const checks = [];
const downloads = new Map();
let draw = null;

export function collect(kind, data) {
  if (kind === 'check') {
    checks.push(data);
    if (checks.length > KEPT) checks.shift();
  } else if (kind === 'download') {
    const known = downloads.get(data.number) || { rate: 0, bytes: data.bytes, time: performance.now() };
    const seconds = (performance.now() - known.time) / 1000;
    if (seconds > 0.2 && data.bytes > known.bytes) {
      const rate = (data.bytes - known.bytes) / seconds;
      Object.assign(known, { rate: known.rate ? 0.7 * known.rate + 0.3 * rate : rate, bytes: data.bytes, time: performance.now() });
    }
    known.event = data;
    downloads.set(data.number, known);
    if (data.result) {
      setTimeout(() => {
        if (downloads.get(data.number) === known) downloads.delete(data.number);
        if (draw) draw();
      }, LINGER);
    }
    if (draw) draw();
  }
}

/** Removes all downloads when the event stream begins or ends: their ends may be missed, and a server that was restarted
 * counts from one again. Those that continue are reported again. */
export function forgetDownloads() {
  downloads.clear();
  if (draw) draw();
}

/** Sixty bars in an SVG with units of its own; the words around it are HTML. */
function chart(values, parts, label) {
  const top = Math.max(1, ...values.map((value) => value[0]));
  const drawing = s('svg', { class: 'chart', viewBox: `0 0 ${values.length * 10} 100`, preserveAspectRatio: 'none', role: 'img', 'aria-label': label });
  drawing.append(s('path', { class: 'grid', d: `M0 .5H${values.length * 10}M0 50H${values.length * 10}` }));
  values.forEach((value, at) => value.slice(0, parts).forEach((n, part) => {
    const height = n ? Math.max(1.5, (100 * n) / top) : 0;
    if (height) drawing.append(s('rect', { class: part ? 'part' : 'whole', x: at * 10 + 1, width: 8, y: 100 - height, height }));
  }));
  return drawing;
}

export function show(main, route, context) {
  const note = h('p.note', { hidden: true }, icon('warn'), t('noStream'));
  const rates = h('section.card.rates', { 'aria-label': t('lastHour') });
  const running = h('ul.downloads', {});
  const idle = h('p.small', {});
  const feed = h('ol.feed', { 'aria-live': 'off' });
  const waiting = h('p.small', {}, t('noEvents'));
  const refusals = h('input', { type: 'checkbox', id: 'refusals' });
  const hold = h('button', { type: 'button', 'aria-pressed': 'false', onclick: () => { held = !held; hold.setAttribute('aria-pressed', held); if (!held) flush(); } }, t('holdFeed'));
  main.append(h('div.title', {}, h('h1', {}, t('live'))), note, rates,
    h('section', {}, h('h2', {}, t('downloadsNow')), running, idle),
    h('section', {}, h('div.title', {}, h('h2', {}, t('feed')), h('div.acts', {}, h('label.check', { for: 'refusals' }, refusals, h('span', {}, t('onlyRefusals'))), hold)), feed, waiting));

  const rows = new Map();
  let queue = checks.slice();
  let frame = 0;
  let held = false;
  let gone = false;

  // ---- rates

  const order = answerOrder();

  async function load() {
    const isLate = order();
    try {
      const { slots } = await api('GET', 'rates');
      if (gone || isLate()) return;
      const all = Array.from({ length: Math.max(0, 60 - slots.length) }, () => ({ checks: 0, offers: 0, bytes: 0 })).concat(slots);
      const sum = (key) => all.reduce((total, slot) => total + slot[key], 0);
      const busiest = all.reduce((most, slot) => Math.max(most, slot.checks), 0);
      const heaviest = all.reduce((most, slot) => Math.max(most, slot.bytes), 0);
      const words = t('ratesWords', number(sum('checks')), number(sum('offers')), number(busiest));
      const sent = t('ratesBytes', bytes(sum('bytes')), bytes(heaviest));
      const figure = (title, most, values, parts, text) => {
        const drawing = chart(values, parts, text);
        const caption = h('figcaption', {}, text);
        drawing.onpointermove = (event) => {
          const box = drawing.getBoundingClientRect();
          const at = Math.min(all.length - 1, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * all.length)));
          caption.textContent = t('ratesAt', all.length - 1 - at, number(all[at].checks), number(all[at].offers), bytes(all[at].bytes));
        };
        drawing.onpointerleave = () => { caption.textContent = text; };
        return h('figure', {}, h('div.axis', {}, h('b', {}, title), h('span', {}, most)), drawing,
          h('div.axis', { 'aria-hidden': 'true' }, h('span', {}, t('hourAgo')), h('span', {}, t('now'))), caption);
      };
      rates.replaceChildren(
        figure(t('checksMinute'), number(busiest), all.map((slot) => [slot.checks, slot.offers]), 2, words),
        figure(t('bytesMinute'), bytes(heaviest), all.map((slot) => [slot.bytes]), 1, sent));
    } catch (error) {
      if (!gone && !rates.firstChild) rates.replaceChildren(said(error.message, 'p'));
    }
  }

  // ---- downloads

  function row(event) {
    const bar = progress(t('downloadOf', event.device || '–'), 0);
    const facts = h('span.small', {});
    const element = h('li', {}, h('div.line', {}, h('a', { href: '#/devices/' + encodeURIComponent(event.device) }, h('code', {}, event.device || '–'), event.name && ' ' + event.name),
      h('span', {}, event.project, ' ', event.from, event.from && ' → ', h('b', {}, event.to))), bar, facts);
    running.prepend(element);
    return { element, bar, facts };
  }

  draw = () => {
    for (const [key, { event, rate }] of downloads) {
      if (!rows.has(key)) rows.set(key, row(event));
      const { element, bar, facts } = rows.get(key);
      bar.set(event.size ? Math.min(100, (100 * event.bytes) / event.size) : 0);
      facts.textContent = [event.proto.toUpperCase(), t('ofBytes', bytes(event.bytes), bytes(event.size)),
        event.result ? t('result_' + event.result, event.result) : rate > 0 && t('perSecond', bytes(rate))].filter(Boolean).join(' · ');
      if (event.result) element.className = event.result === 'complete' ? 'complete' : 'broken';
    }
    for (const [key, { element }] of rows) {
      if (downloads.has(key)) continue;
      element.remove();
      rows.delete(key);
    }
    const others = context.summary ? context.summary.running : 0;
    idle.textContent = rows.size ? '' : others ? t('notYetHeard', number(others)) : t('noDownloads');
  };

  // ---- the feed

  function entry(event) {
    // Without an id the server has no stored request of the module.
    const query = new URLSearchParams(event.device ? { device: event.device } : { firmware_name: event.project, version: event.from });
    return h('li.' + event.verdict, {}, h('time.small', { datetime: event.time || '' }, clock(event.time || Date.now())),
      h('span.state.' + event.verdict, {}, t('verdict_' + event.verdict)),
      h('span.who', {}, h('a', { href: '#/devices/' + encodeURIComponent(event.device) }, h('code', {}, event.device || '–'), event.name && ' ' + event.name), ' ', event.project, ' ', event.from, event.to && [' → ', h('b', {}, event.to)]),
      h('span.why', {}, said(event.reason), ' ', h('span.small', {}, event.proto.toUpperCase(), ' ', event.peer), ' ', h('a.small', { href: '#/explain?' + query }, t('why'))));
  }

  function flush() {
    frame = 0;
    const wanted = queue.filter((event) => !refusals.checked || event.verdict === 'refuse').slice(-KEPT);
    queue = [];
    feed.prepend(...wanted.reverse().map(entry));
    while (feed.children.length > KEPT) feed.lastChild.remove();
    waiting.hidden = feed.children.length > 0;
  }

  refusals.onchange = () => feed.classList.toggle('refusals', refusals.checked);

  const linked = () => { note.hidden = context.streaming || !context.summary; };
  load();
  linked();
  draw();
  flush();
  let ticks = 0;
  return {
    linked,
    tick: () => { ticks += 1; linked(); draw(); if (ticks % 2 === 0) load(); },
    onEvent: (kind, data) => {
      if (kind !== 'check') return;
      queue.push(data);
      if (queue.length > KEPT) queue.shift();
      if (!held && !frame) frame = setTimeout(flush, 250);
    },
    leave: () => { gone = true; draw = null; clearTimeout(frame); },
  };
}
