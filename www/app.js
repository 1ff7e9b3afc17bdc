// Frame of the page: routing between views, language and theme, state of the connection. A view is a module
// with `show(main, route, context)`, which returns its handlers: `onEvent` (an event of the stream), `tick`
// (every five seconds), `leave`.

import { ago, answerOrder, api, events, h, icon, isAskingForToken, lang, memory, setLang, signIn, t, takeToken, toast, token, whenLocked } from './base.js';
import * as releases from './releases.js';
import * as devices from './devices.js';
import * as live from './live.js';
import * as explain from './explain.js';
import * as drop from './drop.js';

const VIEWS = { releases, devices, live, explain, drop };
const THEMES = ['auto', 'light', 'dark'];
const main = document.getElementById('main');
const dark = matchMedia('(prefers-color-scheme: dark)');

/** State shared by the views: the last summary, whether the stream is up, and navigation. */
const context = { summary: null, streaming: false, go: (hash) => { location.hash = hash; } };
let view = null;
let shown = '';
/** Reason why the API cannot be read, as a key of WORDS or ''; null if it can. */
let locked = null;
/** Restarts the event stream. */
let restart = null;

// ---- language and theme

function theme() {
  const choice = memory.get('theme') || 'auto';
  document.documentElement.dataset.theme = choice === 'auto' ? (dark.matches ? 'dark' : 'light') : choice;
  const label = t('theme') + ': ' + t(choice);
  const knob = document.getElementById('theme');
  knob.replaceChildren(icon(choice));
  knob.title = label;
  knob.setAttribute('aria-label', label);
}

function frame() {
  document.documentElement.lang = lang === 'zh' ? 'zh-CN' : 'en';
  document.getElementById('skip').textContent = t('skip');
  const knob = document.getElementById('lang');
  knob.textContent = lang === 'zh' ? 'EN' : '中';
  knob.lang = lang === 'zh' ? 'en' : 'zh-CN';
  knob.setAttribute('aria-label', lang === 'zh' ? 'English' : '中文');
  knob.title = lang === 'zh' ? 'English' : '中文';
  const nav = document.getElementById('nav');
  nav.setAttribute('aria-label', t('views'));
  nav.replaceChildren(...Object.keys(VIEWS).map((name) => h('a', { href: '#/' + name, 'data-view': name }, icon(name), h('span', {}, t(name)))));
  theme();
  link();
  foot();
}

function link() {
  const dot = document.getElementById('link');
  const state = context.streaming ? 'streaming' : context.summary ? 'polling' : 'offline';
  dot.className = 'link ' + state;
  const words = t(locked === null ? state : 'token');
  dot.title = words;
  dot.setAttribute('aria-label', words);
}

function foot() {
  document.getElementById('foot').replaceChildren(context.summary ? 'luat-ota ' + context.summary.version : '');
}

document.getElementById('lang').onclick = () => {
  setLang(lang === 'zh' ? 'en' : 'zh');
  frame();
  route(true);
};
document.getElementById('theme').onclick = () => {
  memory.set('theme', THEMES[(THEMES.indexOf(memory.get('theme') || 'auto') + 1) % THEMES.length]);
  theme();
};
dark.onchange = theme;
document.getElementById('skip').onclick = (event) => {
  event.preventDefault();
  main.focus();
};

// ---- routing

function route(again = false) {
  if (takeToken()) unlock();
  if (locked !== null) { login(); return; }
  const [, name, id, query] = /^#\/([a-z]*)\/?([^?]*)\??(.*)$/.exec(location.hash) || [];
  const next = VIEWS[name] ? name : 'releases';
  if (view && view.leave) view.leave();
  main.replaceChildren();
  main.dataset.view = next;
  view = VIEWS[next].show(main, { id: decodeURIComponent(id || ''), query: new URLSearchParams(query) }, context) || {};
  for (const item of document.querySelectorAll('#nav a')) {
    if (item.dataset.view === next) item.setAttribute('aria-current', 'page');
    else item.removeAttribute('aria-current');
  }
  document.title = t(next) + ' – luat-ota';
  if (!again && shown && shown !== next + id) {
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
  shown = next + id;
}
addEventListener('hashchange', () => route());

// ---- the token

function unlock() {
  locked = null;
  if (restart) restart();
}

/** Shows the form for the token instead of the view. */
function login() {
  if (view && view.leave) view.leave();
  view = {};
  const field = h('input', { type: 'password', id: 'token', autocomplete: 'current-password', required: true, spellcheck: 'false' });
  const wrong = h('p.reason.bad', { role: 'alert' }, locked && t(locked));
  const go = h('button.primary', { type: 'submit' }, t('login'));
  const submit = async (event) => {
    event.preventDefault();
    go.disabled = true;
    try {
      await signIn(field.value.trim());
    } catch (error) {
      wrong.textContent = error.message;
      go.disabled = false;
      field.select();
    }
  };
  main.dataset.view = 'login';
  main.replaceChildren(h('form.login', { onsubmit: submit }, h('h1', {}, t('login')), h('p', {}, t('loginWhy')),
    // Password managers store a password by user name.
    h('input', { type: 'text', autocomplete: 'username', value: 'operator', hidden: true }),
    h('div.field', {}, h('label', { for: 'token' }, t('tokenField')), field), wrong, h('div.acts', {}, go)));
  document.title = t('login') + ' – luat-ota';
  field.focus();
}

whenLocked((why) => {
  const before = locked;
  locked = why;
  // Deferred, because a view may be about to be shown.
  if (before === null) queueMicrotask(login);
}, () => {
  const was = locked;
  unlock();
  if (was === null) return;
  route(true);
  tick();
});

// ---- data of the server

const order = answerOrder();

async function tick() {
  if (document.hidden || locked !== null || isAskingForToken()) return;
  const isLate = order();
  try {
    const summary = await api('GET', 'summary');
    if (isLate()) return;
    context.summary = summary;
    foot();
    if (view && view.tick) view.tick();
    for (const time of document.querySelectorAll('time.ago')) time.textContent = ago(time.dateTime).textContent;
  } catch (error) {
    if (isLate()) return;
    if (context.summary && locked === null) toast(error.message, true);
    context.summary = null;
  }
  link();
}

function onEvent(kind, data) {
  live.collect(kind, data);
  if (view && view.onEvent) view.onEvent(kind, data);
  if (kind === 'catalog') tick();
}

// ---- files dropped anywhere: onto a release, or placed by their names

let over = null;
const target = (event) => (event.target.closest ? event.target.closest('[data-drop]') : null);
const hasFiles = (event) => event.dataTransfer && [...event.dataTransfer.types].includes('Files');
function mark(element) {
  if (over) over.classList.remove('over');
  over = element;
  if (over) over.classList.add('over');
}
addEventListener('dragover', (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  event.dataTransfer.dropEffect = 'copy';
  document.body.classList.add('dragging');
  mark(target(event));
});
addEventListener('dragleave', (event) => {
  if (event.relatedTarget) return;
  document.body.classList.remove('dragging');
  mark(null);
});
addEventListener('drop', (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  document.body.classList.remove('dragging');
  const onto = target(event);
  mark(null);
  drop.add([...event.dataTransfer.files], onto ? JSON.parse(onto.dataset.drop) : {});
  if (main.dataset.view !== 'drop') location.hash = '#/drop';
});

takeToken();
if (!token()) locked = '';
frame();
route();
tick();
setInterval(tick, 5000);
document.addEventListener('visibilitychange', tick);
restart = events(onEvent, (up) => {
  context.streaming = up;
  live.forgetDownloads();
  link();
  if (view && view.linked) view.linked();
  if (up) tick();
});
