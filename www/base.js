// What every view stands on: elements, words in two languages, numbers and times, the API with its
// token, the stream of events. Text from outside only ever becomes a text node.

import { SAID, WORDS } from './words.js';

const SVG = 'http://www.w3.org/2000/svg';

/** Something small that outlives the page, where the browser lets us. */
export const memory = {
  get(key, store = 'localStorage') {
    try { return window[store].getItem('luat-ota.' + key); } catch { return null; }
  },
  set(key, value, store = 'localStorage') {
    try {
      if (value === null) window[store].removeItem('luat-ota.' + key);
      else window[store].setItem('luat-ota.' + key, value);
    } catch { /* then it is forgotten with the page */ }
  },
};

// ---- elements

function fill(element, props, children) {
  for (const [key, value] of Object.entries(props || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else if (key in element && typeof value !== 'string') element[key] = value;
    else element.setAttribute(key, value === true ? '' : value);
  }
  element.append(...children.flat(3).filter((child) => child || child === 0));
  return element;
}

/** `h('p.note', {id: 'x'}, 'text')` */
export function h(name, props, ...children) {
  const [tag, ...classes] = name.split('.');
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(' ');
  return fill(element, props, children);
}

/** The same for SVG. */
export function s(tag, props, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(props || {})) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Puts children in the place of those that are there. */
export function put(parent, ...children) {
  parent.replaceChildren();
  return fill(parent, null, children);
}

/** One of the symbols of index.html; words beside it, or a label, say what it means. */
export const icon = (name) => s('svg', { class: 'icon', 'aria-hidden': 'true', viewBox: '0 0 24 24' }, s('use', { href: '#i-' + name }));

/** A button with an icon and words. `key` names it, so that focus comes back to it after a redraw. */
export const button = (key, symbol, words, onclick, kind = '') =>
  h('button' + kind, { type: 'button', 'data-key': key, onclick }, symbol && icon(symbol), h('span', {}, words));

/** Text of the server, in our language where we know it; else in English, and said so to screen readers. */
export function said(text, name = 'span') {
  const words = translate(text) ?? text;
  return h(name, /[\u4e00-\u9fff]/.test(words) ? {} : { lang: 'en' }, words);
}

const WHOLE = SAID.map(([pattern, ...words]) => [new RegExp('^(?:' + pattern.source + ')$'), ...words]);

/** In the words for a text, `$1` is what its pattern found, and `@1` the translation of that. */
function translate(text) {
  for (const [whole, en, zh] of WHOLE) {
    const found = whole.exec(text);
    const words = lang === 'zh' ? zh : en;
    if (found) return words && words.replace(/([$@])(\d)/g, (_, kind, at) => (kind === '@' && translate(found[at])) || found[at] || '');
  }
  // "2.0.1: why", "refused: why; and then"
  const [, before, after] = /^([^\s:]{1,300}): (.+)$/.exec(text) || [];
  const rest = after && translate(after);
  if (rest) return (before === 'refused' ? t('verdict_refuse') : before) + (lang === 'zh' ? '：' : ': ') + rest;
  const parts = text.split('; ');
  const both = parts.length > 1 && parts.map(translate);
  return both && both.some(Boolean) ? both.map((part, at) => part ?? parts[at]).join(lang === 'zh' ? '；' : '; ') : null;
}

/** Makes the children of `parent` those of `items`: what did not change keeps its element, its focus and
 * what is unfolded in it. `draw(item, was)` may bring `was` up to date and give it back. */
export function keyed(parent, items, key, draw) {
  const old = new Map([...parent.children].map((child) => [child.dataset.item, child]));
  const active = document.activeElement;
  const focused = parent.contains(active) && active.closest('[data-item]');
  const wanted = items.map((item) => {
    const name = key(item);
    const mark = JSON.stringify(item);
    const was = old.get(name);
    if (was && was.mark === mark) return was;
    const element = draw(item, was);
    element.dataset.item = name;
    element.mark = mark;
    if (was && was !== element) {
      for (const open of was.querySelectorAll('details[open]')) {
        const again = element.querySelector(`details[data-key="${open.dataset.key}"]`);
        if (again) again.open = true;
      }
    }
    return element;
  });
  // Only what moved is moved: an element that is taken out and put back loses the focus.
  const keep = new Set(wanted);
  for (const child of [...parent.children]) if (!keep.has(child)) child.remove();
  let at = parent.firstElementChild;
  for (const element of wanted) {
    if (element === at) at = at.nextElementSibling;
    else parent.insertBefore(element, at);
  }
  if (focused && !parent.contains(document.activeElement)) {
    const item = wanted.find((element) => element.dataset.item === focused.dataset.item);
    const target = item && (item.querySelector(`[data-key="${active.dataset.key}"]`) || item.querySelector('button, a, summary'));
    if (target) target.focus();
  }
}

// ---- words

const wish = (navigator.languages || [navigator.language || 'en']).map((tag) => tag.slice(0, 2).toLowerCase());
export let lang = memory.get('lang') || wish.find((tag) => tag === 'zh' || tag === 'en') || 'en';

export function setLang(to) {
  lang = to;
  memory.set('lang', to);
}

/** The words for a key, with {0}, {1} filled in. */
export function t(key, ...values) {
  const words = WORDS[key];
  if (!words) return values[0] ?? key;
  return words[lang === 'zh' ? 1 : 0].replace(/\{(\d)\}/g, (_, at) => values[at] ?? '');
}

const locale = () => (lang === 'zh' ? 'zh-CN' : 'en-GB');

export const number = (n) => new Intl.NumberFormat(locale()).format(n);

/** Bytes for people, by the thousand. */
export function bytes(n) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let at = 0;
  while (n >= 999.5 && at < units.length - 1) { n /= 1000; at += 1; }
  return new Intl.NumberFormat(locale(), { maximumFractionDigits: at && n < 99.5 ? 1 : 0 }).format(n) + '\u00a0' + units[at];
}

/** A moment as "5 min ago", with the exact time behind it. */
export function ago(time) {
  if (!time) return h('span', {}, '–');
  const date = new Date(time);
  return h('time.ago', { datetime: time, title: date.toLocaleString(locale()) }, span((date - Date.now()) / 1000));
}

export function span(seconds) {
  const units = [['day', 86400], ['hour', 3600], ['minute', 60], ['second', 1]];
  const [unit, size] = units.find(([, length]) => Math.abs(seconds) >= length) || units[3];
  return new Intl.RelativeTimeFormat(locale(), { numeric: 'auto', style: 'short' }).format(Math.trunc(seconds / size), unit);
}

/** A moment to the second. */
export const exact = (time) => h('time', { datetime: time }, time ? new Date(time).toLocaleString(locale(), { hour12: false }) : '–');

/** A moment with its date; `day`: the date of a day in UTC. */
export const moment = (time, day) => new Date(time).toLocaleString(locale(), day ? { dateStyle: 'medium', timeZone: 'UTC' } : { dateStyle: 'medium', timeStyle: 'short', hour12: false });

export const clock = (time) => new Date(time).toLocaleTimeString(locale(), { hour12: false });

// ---- said once, politely

let quiet;
export function toast(text, bad = false) {
  const box = document.getElementById('toast');
  box.className = bad ? 'bad' : '';
  box.textContent = text;
  clearTimeout(quiet);
  quiet = setTimeout(() => { box.textContent = ''; }, bad ? 9000 : 5000);
}

/** A dialog; resolves to what `submit` gives (`undefined`: it stays open), or null. `rows` are its elements. */
let asked = 0;
export function ask(title, rows, yes, submit = () => true, danger = false) {
  const box = document.getElementById('ask');
  asked += 1;
  const mine = asked;
  return new Promise((resolve) => {
    let result = null;
    const done = (value) => { if (value === undefined) return; result = value; box.close(); };
    box.setAttribute('aria-labelledby', 'ask-title');
    box.replaceChildren(h('form', { method: 'dialog', onsubmit: (event) => { event.preventDefault(); done(submit()); } },
      h('h2', { id: 'ask-title' }, title), rows,
      h('div.actions', {},
        h('button', { type: 'button', onclick: () => done(null) }, t('cancel')),
        h(danger ? 'button.primary.danger' : 'button.primary', { type: 'submit' }, yes))));
    if (box.open) box.close();
    // The event comes later, when the next dialog may be open already.
    const closed = () => {
      if (mine === asked && box.open) return;
      box.removeEventListener('close', closed);
      if (mine === asked) box.replaceChildren();
      resolve(result);
    };
    box.addEventListener('close', closed);
    box.showModal();
  });
}

// ---- the API

/** Takes the token of the link that the server printed: it is kept for this tab, and leaves the address.
 * True if there was one. */
export function takeToken() {
  const found = /[#&]token=([^&]+)/.exec(location.hash);
  if (!found) return false;
  memory.set('token', decodeURIComponent(found[1]), 'sessionStorage');
  history.replaceState(null, '', location.pathname + '#/releases');
  return true;
}

export const token = () => memory.get('token', 'sessionStorage');
const authorised = (text = token()) => (text ? { Authorization: 'Bearer ' + text } : {});

/** Called when nothing can be read because there is no valid token; with a key of the words, or ''. */
let locked = () => {};
export const whenLocked = (tell) => { locked = tell; };

/** Keeps a token for this tab if the server takes it; else throws what is wrong. */
export async function signIn(text) {
  let reply;
  try {
    reply = await fetch('/api/v1/summary', { headers: authorised(text), cache: 'no-store' });
  } catch {
    throw new Problem(0, t('offline'));
  }
  if (reply.status === 401) throw new Problem(401, t('tokenWrong'));
  if (!reply.ok) throw problem(reply.status, await reply.text().catch(() => ''));
  memory.set('token', text, 'sessionStorage');
}

/** Asks for the operator's token, to change something; `false` if it was not given. Several requests may
 * need it at once: one question. `why` is a key of the words. */
let asking = null;
function askToken(why) {
  asking ||= (async () => {
    const field = h('input', { type: 'password', id: 'token', autocomplete: 'off', required: true, spellcheck: 'false' });
    const given = await ask(t('token'), [h('p', {}, t(why)), h('label', { for: 'token' }, t('tokenField')), field], t('go'), () => field.value.trim());
    if (given) memory.set('token', given, 'sessionStorage');
    return Boolean(given);
  })().finally(() => { asking = null; });
  return asking;
}

/** Why a token is needed for a reply with this status, as a key of the words; '' if it is not about that. */
const lacks = (status, header) => (status === 401 ? (token() ? 'tokenWrong' : 'tokenWhy') : status === 403 && header ? 'tokenReads' : '');

/** What went wrong, as a sentence. */
export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

function problem(status, text) {
  try {
    const { detail } = JSON.parse(text);
    if (detail) return new Problem(status, translate(detail) ?? detail);
  } catch { /* no problem+json: say the number */ }
  return new Problem(status, t('status', status));
}

/** One request of the API; a body that is a text is sent as it is. Where a token is missing, a GET locks the page and
 * anything else asks for one and tries again. */
export async function api(method, path, body, headers = {}) {
  if (method === 'GET' && !token()) {
    locked('');
    throw new Problem(401, t('loginWhy'));
  }
  let reply;
  try {
    reply = await fetch('/api/v1/' + path, {
      method,
      headers: { ...authorised(), ...(body === undefined ? {} : { 'Content-Type': 'application/json' }), ...headers },
      body: body === undefined || typeof body === 'string' ? body : JSON.stringify(body),
      cache: 'no-store',
    });
  } catch {
    throw new Problem(0, t('offline'));
  }
  const text = await reply.text().catch(() => '');
  const why = lacks(reply.status, reply.headers.get('WWW-Authenticate'));
  if (why && method === 'GET') locked(why);
  else if (why && await askToken(why)) return api(method, path, body, headers);
  if (!reply.ok) throw problem(reply.status, text);
  return text ? JSON.parse(text) : null;
}

/** Puts a file there; `moved` hears how far it is. Here fetch cannot say, XMLHttpRequest can. */
export function upload(path, file, digest, rules, moved) {
  const send = () => new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open('PUT', '/api/v1/firmware/' + path);
    for (const [name, value] of Object.entries(authorised())) request.setRequestHeader(name, value);
    request.setRequestHeader('Content-Type', 'application/octet-stream');
    if (digest) request.setRequestHeader('Repr-Digest', `sha-256=:${digest}:`);
    if (rules) request.setRequestHeader('Release-Rules', rules);
    request.upload.onprogress = (event) => moved(event.loaded);
    request.onload = () => {
      if (request.status < 300) resolve(JSON.parse(request.responseText));
      else reject(Object.assign(problem(request.status, request.responseText), { why: lacks(request.status, request.getResponseHeader('WWW-Authenticate')) }));
    };
    request.onerror = () => reject(new Problem(0, t('offline')));
    request.send(file);
  });
  return send().catch(async (error) => {
    if (error.why && await askToken(error.why)) return upload(path, file, digest, rules, moved);
    throw error;
  });
}

/** Lets the server make the package of a .soc file: its name and its bytes. */
export async function makePackage(file, query) {
  let reply;
  try {
    reply = await fetch('/api/v1/pack/' + encodeURIComponent(file.name) + '?' + query, {
      method: 'POST', headers: { ...authorised(), 'Content-Type': 'application/octet-stream' }, body: file, cache: 'no-store',
    });
  } catch {
    throw new Problem(0, t('offline'));
  }
  const why = lacks(reply.status, reply.headers.get('WWW-Authenticate'));
  if (why && await askToken(why)) return makePackage(file, query);
  if (!reply.ok) throw problem(reply.status, await reply.text().catch(() => ''));
  const [, name] = /filename\*?=(?:UTF-8''|")([^"]+)/.exec(reply.headers.get('Content-Disposition'));
  return { name: decodeURIComponent(name), bytes: await reply.blob() };
}

/** Downloads a whole list, as a file. A spreadsheet reads CSV as UTF-8 only with a mark at its beginning. */
async function save(list, query, format) {
  let reply;
  try {
    reply = await fetch(`/api/v1/${list}?${new URLSearchParams([...query, ['format', format]])}`, { headers: authorised(), cache: 'no-store' });
    if (!reply.ok) throw problem(reply.status, await reply.text());
    const file = new Blob([format === 'csv' ? '\ufeff' : '', await reply.blob()], { type: reply.headers.get('Content-Type') });
    const href = URL.createObjectURL(file);
    h('a', { href, download: decodeURIComponent(list).replaceAll('/', '-') + '.' + format }).click();
    setTimeout(() => URL.revokeObjectURL(href), 60000);
  } catch (error) {
    toast(reply ? error.message : t('offline'), true);
  }
}

/** Buttons that download a list of the API; `query` gives the pairs of its filter. */
export const exports = (list, query = () => []) => h('div.acts', { role: 'group', 'aria-label': t('download') },
  ['csv', 'json'].map((format) => button('save-' + format, 'drop', format.toUpperCase(), () => save(list, query(), format), '.quiet')));

/** Base64 of bytes. */
export const base64 = (buffer) => btoa(Array.from(new Uint8Array(buffer), (byte) => String.fromCharCode(byte)).join(''));

/** Reads the event stream, and begins again when it ends: after 1 s, then 2, up to 30. EventSource cannot
 * send the token, so this is fetch. A stream that says nothing for 40 s (it pings every 15) is dead.
 * Nothing is read while nobody looks (the server has room for 16 readers), nor without a token. Returns a
 * function that begins again at once. */
export function events(heard, state) {
  let wait = 1000;
  let wake;
  let running = null;
  const sleep = (ms) => new Promise((resolve) => { wake = resolve; setTimeout(resolve, ms); });
  const read = async () => {
    running = new AbortController();
    let watchdog;
    const alive = () => { clearTimeout(watchdog); watchdog = setTimeout(() => running && running.abort(), 40000); };
    try {
      alive();
      const reply = await fetch('/api/v1/events', { headers: authorised(), signal: running.signal, cache: 'no-store' });
      if (!reply.ok || !reply.body) throw problem(reply.status, '');
      state(true);
      wait = 1000;
      const reader = reply.body.getReader();
      const decoder = new TextDecoder();
      let text = '';
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        alive();
        text += decoder.decode(value, { stream: true });
        const blocks = text.split(/\r?\n\r?\n/);
        text = blocks.pop();
        for (const block of blocks) {
          const kind = /^event: ?(.*)$/m.exec(block);
          const data = /^data: ?(.*)$/m.exec(block);
          if (kind && data) heard(kind[1], JSON.parse(data[1]));
        }
      }
    } finally {
      clearTimeout(watchdog);
      running = null;
    }
  };
  const again = () => { wait = 1000; if (wake) wake(); };
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) { if (running) running.abort(); } else again();
  });
  (async () => {
    for (;;) {
      const idle = () => document.hidden || !token();
      if (!idle()) await read().catch(() => {});
      state(false);
      await sleep(idle() ? 3600000 : wait);
      wait = Math.min(wait * 2, 30000);
    }
  })();
  return again;
}
