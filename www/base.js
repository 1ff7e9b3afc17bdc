// Common functions of the views: elements, words in two languages, numbers and times, the API with its
// token, the event stream. Text from outside is inserted as text nodes only.

import { SAID, WORDS } from './words.js';

const SVG = 'http://www.w3.org/2000/svg';

/** Small values that outlive the page, if the browser permits storage. */
export const memory = {
  get(key, store = 'localStorage') {
    try { return window[store].getItem('luat-ota.' + key); } catch { return null; }
  },
  set(key, value, store = 'localStorage') {
    try {
      if (value === null) window[store].removeItem('luat-ota.' + key);
      else window[store].setItem('luat-ota.' + key, value);
    } catch { /* then the value is not stored */ }
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

/** Creates an element: `h('p.note', {id: 'x'}, 'text')`. */
export function h(name, props, ...children) {
  const [tag, ...classes] = name.split('.');
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(' ');
  return fill(element, props, children);
}

/** Creates an SVG element. */
export function s(tag, props, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(props || {})) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Replaces the children of `parent`. */
export function put(parent, ...children) {
  parent.replaceChildren();
  return fill(parent, null, children);
}

/** Symbol of index.html. Its meaning is stated by words beside it or by a label. */
export const icon = (name) => s('svg', { class: 'icon', 'aria-hidden': 'true', viewBox: '0 0 24 24' }, s('use', { href: '#i-' + name }));

/** Button with an icon and words. `key` identifies it, so that a redraw can restore the focus. */
export const button = (key, symbol, words, onclick, kind = '') =>
  h('button' + kind, { type: 'button', 'data-key': key, onclick }, symbol && icon(symbol), h('span', {}, words));

/** Text of the server, translated if possible; otherwise marked as English for screen readers. */
export function said(text, name = 'span') {
  const words = translate(text) ?? text;
  return h(name, /[\u4e00-\u9fff]/.test(words) ? {} : { lang: 'en' }, words);
}

const WHOLE = SAID.map(([pattern, ...words]) => [new RegExp('^(?:' + pattern.source + ')$'), ...words]);

/** Translates a text. In its words, `$1` is the match of the pattern, `@1` its translation. */
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

/** Updates the children of `parent` to `items`. An unchanged item keeps its element with focus and unfolded
 * parts. `draw(item, was)` may update the element `was` and return it. */
export function reconcile(parent, items, key, draw) {
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
  // Moves only elements whose place changed: removal and reinsertion would lose the focus.
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

const preferred = (navigator.languages || [navigator.language || 'en']).map((tag) => tag.slice(0, 2).toLowerCase());
export let lang = memory.get('lang') || preferred.find((tag) => tag === 'zh' || tag === 'en') || 'en';

export function setLang(to) {
  lang = to;
  memory.set('lang', to);
}

/** Returns the words for a key, with `values` for {0}, {1}. */
export function t(key, ...values) {
  const words = WORDS[key];
  if (!words) return values[0] ?? key;
  return words[lang === 'zh' ? 1 : 0].replace(/\{(\d)\}/g, (_, at) => values[at] ?? '');
}

const locale = () => (lang === 'zh' ? 'zh-CN' : 'en-GB');

export const number = (n) => new Intl.NumberFormat(locale()).format(n);

/** Formats a number of bytes in powers of 1000. */
export function bytes(n) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let at = 0;
  while (n >= 999.5 && at < units.length - 1) { n /= 1000; at += 1; }
  return new Intl.NumberFormat(locale(), { maximumFractionDigits: at && n < 99.5 ? 1 : 0 }).format(n) + '\u00a0' + units[at];
}

/** Formats a time as "5 min ago", with the exact time as title. */
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

/** Formats a time to the second. */
export const exact = (time) => h('time', { datetime: time }, time ? new Date(time).toLocaleString(locale(), { hour12: false }) : '–');

/** Formats a time with its date; if `day`, only the date in UTC. */
export const moment = (time, day) => new Date(time).toLocaleString(locale(), day ? { dateStyle: 'medium', timeZone: 'UTC' } : { dateStyle: 'medium', timeStyle: 'short', hour12: false });

export const clock = (time) => new Date(time).toLocaleTimeString(locale(), { hour12: false });

// ---- messages and dialogs

let quiet;
export function toast(text, bad = false) {
  const box = document.getElementById('toast');
  box.className = bad ? 'bad' : '';
  box.textContent = text;
  clearTimeout(quiet);
  quiet = setTimeout(() => { box.textContent = ''; }, bad ? 9000 : 5000);
}

/** Shows a dialog with `rows`, above one that is open. Resolves to the value of `submit` (`undefined` keeps the dialog
 * open) or null. */
export function ask(title, rows, yes, submit = () => true, danger = false) {
  const lowest = document.getElementById('ask');
  // It is empty after its event "close", which fires later than it closes.
  const box = lowest.children.length ? h('dialog') : lowest;
  return new Promise((resolve) => {
    let result = null;
    const done = (value) => { if (value === undefined) return; result = value; box.close(); };
    const closed = () => { box.replaceChildren(); if (box !== lowest) box.remove(); resolve(result); };
    box.setAttribute('aria-label', title);
    box.replaceChildren(h('form', { method: 'dialog', onsubmit: (event) => { event.preventDefault(); done(submit()); } },
      h('h2', {}, title), rows,
      h('div.actions', {},
        h('button', { type: 'button', onclick: () => done(null) }, t('cancel')),
        h(danger ? 'button.primary.danger' : 'button.primary', { type: 'submit' }, yes))));
    box.addEventListener('close', closed, { once: true });
    if (box !== lowest) document.body.prepend(box);
    box.showModal();
  });
}

/** Order of answers. Call it before a request; it returns a function that tells, after the answer, whether a later
 * request was answered before. Such an answer is outdated. */
export function answerOrder() {
  let sent = 0;
  let newest = 0;
  return () => {
    sent += 1;
    const mine = sent;
    return () => {
      if (mine < newest) return true;
      newest = mine;
      return false;
    };
  };
}

// ---- the API

/** Moves the token from the address (the link that the server printed) into the storage of this tab.
 * Returns whether there was one. */
export function takeToken() {
  const found = /[#&]token=([^&]+)/.exec(location.hash);
  if (!found) return false;
  memory.set('token', decodeURIComponent(found[1]), 'sessionStorage');
  history.replaceState(null, '', location.pathname + '#/releases');
  return true;
}

export const token = () => memory.get('token', 'sessionStorage');
const authorised = (text = token()) => (text ? { Authorization: 'Bearer ' + text } : {});

/** `locked` is called when reading fails for lack of a valid token, with the reason: a key of WORDS, or ''.
 * `unlocked` is called when the server has accepted a token that the user gave. */
let locked = () => {};
let unlocked = () => {};
export const whenLocked = (lock, unlock) => { [locked, unlocked] = [lock, unlock]; };

/** Stores a token for this tab and unlocks the page if the server accepts it; otherwise throws the problem. */
export async function signIn(text) {
  try {
    await request('summary', { headers: authorised(text) });
  } catch (error) {
    throw error.status === 401 ? new Problem(401, t('tokenWrong')) : error;
  }
  memory.set('token', text, 'sessionStorage');
  unlocked();
}

/** Asks for the operator token, which changes require, until the server accepts one; resolves to false if none was
 * given. Concurrent requests share one dialog. `why` is a key of WORDS. */
let asking = null;
export const isAskingForToken = () => asking !== null;
function askToken(why) {
  asking ||= (async () => {
    for (let reason = why; ; reason = 'tokenWrong') {
      const field = h('input', { type: 'password', id: 'token', autocomplete: 'off', required: true, spellcheck: 'false' });
      const given = await ask(t('token'), [h('p', {}, t(reason)), h('label', { for: 'token' }, t('tokenField')), field], t('go'), () => field.value.trim());
      if (!given) return false;
      try {
        await signIn(given);
        return true;
      } catch (error) {
        if (error.status !== 401) throw error;
      }
    }
  })().finally(() => { asking = null; });
  return asking;
}

/** Reason why a reply with this status requires another token, as a key of WORDS; '' if it does not. */
const tokenProblem = (status, header) => (status === 401 ? (token() ? 'tokenWrong' : 'tokenWhy') : status === 403 && header ? 'tokenReads' : '');

/** Failure of a request, with a sentence for the user. `why`: the reason why another token is needed, a key of WORDS, or ''. */
export class Problem extends Error {
  constructor(status, detail, why = '') {
    super(detail);
    this.status = status;
    this.why = why;
  }
}

/** The problem that a reply with this status, text and WWW-Authenticate header reports. */
function problem(status, text, header = null) {
  const why = tokenProblem(status, header);
  try {
    const { detail } = JSON.parse(text);
    if (detail) return new Problem(status, translate(detail) ?? detail, why);
  } catch { /* no problem+json: show the status */ }
  return new Problem(status, t('status', status), why);
}

/** Returns the reply of the API with its whole body, as a text or a `blob`; throws the problem if there is one. */
async function request(path, options, kind = 'text') {
  let reply;
  let body;
  try {
    reply = await fetch('/api/v1/' + path, { cache: 'no-store', ...options });
    body = await reply[reply.ok ? kind : 'text']();
  } catch {
    throw new Problem(0, t('offline'));
  }
  if (!reply.ok) throw problem(reply.status, body, reply.headers.get('WWW-Authenticate'));
  return { body, headers: reply.headers };
}

/** Returns the result of `send`, which gets the header with the token. If the token is refused, `send` is repeated with
 * the one that the user has given meanwhile. Otherwise a change asks for one; reading (`reads`) waits while a change
 * does, and locks the page if there is none. */
async function withToken(reads, send) {
  const sent = token();
  if (reads && !sent) {
    locked('');
    throw new Problem(401, t('loginWhy'));
  }
  try {
    return await send(authorised(sent));
  } catch (error) {
    if (!error.why) throw error;
    const hasOther = sent !== token() || await (reads ? asking : askToken(error.why));
    if (hasOther) return withToken(reads, send);
    if (reads) locked(error.why);
    throw error;
  }
}

/** Sends a request to the API; a string body is sent verbatim. */
export async function api(method, path, body, headers = {}) {
  const { body: text } = await withToken(method === 'GET', (token) => request(path, {
    method,
    headers: { ...token, ...(body === undefined ? {} : { 'Content-Type': 'application/json' }), ...headers },
    body: body === undefined || typeof body === 'string' ? body : JSON.stringify(body),
  }));
  return text ? JSON.parse(text) : null;
}

/** Uploads a file; `moved` gets the bytes sent. XMLHttpRequest reports progress, fetch does not. */
export const upload = (path, file, digest, rules, moved) => withToken(false, (token) => new Promise((resolve, reject) => {
  const request = new XMLHttpRequest();
  request.open('PUT', '/api/v1/firmware/' + path);
  for (const [name, value] of Object.entries(token)) request.setRequestHeader(name, value);
  request.setRequestHeader('Content-Type', 'application/octet-stream');
  if (digest) request.setRequestHeader('Repr-Digest', `sha-256=:${digest}:`);
  if (rules) request.setRequestHeader('Release-Rules', rules);
  request.upload.onprogress = (event) => moved(event.loaded);
  request.onload = () => {
    if (request.status < 300) resolve();
    else reject(problem(request.status, request.responseText, request.getResponseHeader('WWW-Authenticate')));
  };
  request.onerror = () => reject(new Problem(0, t('offline')));
  request.send(file);
}));

/** Lets the server make a package of a .soc file; returns name and bytes. */
export async function makePackage(file, query) {
  const { body, headers } = await withToken(false, (token) => request('pack/' + encodeURIComponent(file.name) + '?' + query, {
    method: 'POST', headers: { ...token, 'Content-Type': 'application/octet-stream' }, body: file,
  }, 'blob'));
  const [, name] = /filename\*?=(?:UTF-8''|")([^"]+)/.exec(headers.get('Content-Disposition'));
  return { name: decodeURIComponent(name), bytes: body };
}

/** Downloads a whole list as a file. Spreadsheets need a byte order mark to read CSV as UTF-8. */
async function save(list, query, format, knob) {
  knob.disabled = true;
  try {
    const { body, headers } = await withToken(true, (token) => request(`${list}?${new URLSearchParams([...query, ['format', format]])}`, { headers: token }, 'blob'));
    const file = new Blob([format === 'csv' ? '\ufeff' : '', body], { type: headers.get('Content-Type') });
    const href = URL.createObjectURL(file);
    h('a', { href, download: decodeURIComponent(list).replaceAll('/', '-') + '.' + format }).click();
    setTimeout(() => URL.revokeObjectURL(href), 60000);
  } catch (error) {
    toast(error.message, true);
  }
  knob.disabled = false;
}

/** Buttons that download a list of the API; `query` returns the pairs of its filter. */
export const exports = (list, query = () => []) => h('div.acts', { role: 'group', 'aria-label': t('download') },
  ['csv', 'json'].map((format) => button('save-' + format, 'drop', format.toUpperCase(), (event) => save(list, query(), format, event.currentTarget), '.quiet')));

/** Encodes bytes as Base64. */
export const base64 = (buffer) => btoa(Array.from(new Uint8Array(buffer), (byte) => String.fromCharCode(byte)).join(''));

/** Reads the event stream, and reconnects when it ends: after 1 s, then 2 s, up to 30 s. Uses fetch, because
 * EventSource cannot send the token. Aborts a stream that is silent for 40 s (the server pings every 15 s).
 * Does not read while the page is hidden (the server permits 16 readers) or without a token. Returns a
 * function that reconnects immediately. */
export function events(onEvent, state) {
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
          if (kind && data) onEvent(kind[1], JSON.parse(data[1]));
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
