// Drop: upload of firmware. The server first recognises a file by name, size and first bytes, and the page
// shows the result; only then is the file sent, and the server checks all of it again. From a .soc file the
// server first makes a package, which can be downloaded, or uploaded paused.

import { api, base64, bytes, h, icon, makePackage, number, put, said, t, toast, upload } from './base.js';
import { progress } from './devices.js';

const LARGEST = 256 * 1024 * 1024;
const HASHED = 64 * 1024 * 1024;
/** Rules of a package that the server made: no real module has installed it yet. */
const MADE_HERE = { percent: 0, paused: 'built here: verify on one module first' };

/** Dropped files; kept while other views are shown. */
const items = [];
let redraw = () => {};

/** Adds files, for a project and version, or (if both are empty) as their names say. */
export function add(files, { project = '', version = '' }) {
  for (const file of files) {
    const soc = /\.soc$/i.test(file.name);
    // For a .soc file its script determines the release, not the place where it is dropped.
    const item = { file, soc, made: null, project: soc ? '' : project, version: soc ? '' : version, bsp: '', state: 'looking', sent: 0, sure: false, answer: null, error: '', turn: 0, percent: '', allow: '', paused: false };
    items.unshift(item);
    look(item);
  }
  redraw();
}

const place = (item) => (item.soc ? [item.made.name] : [...(item.project && item.version ? [item.project, item.version] : []), item.file.name]);

/** Bytes to upload: the file, or the package made from it. */
const content = (item) => (item.soc ? item.made.bytes : item.file);

/** Discards the package of a .soc file. */
function forget(item) {
  if (item.made) URL.revokeObjectURL(item.made.url);
  item.made = null;
}

async function look(item) {
  item.turn += 1;
  const mine = item.turn;
  item.state = 'looking';
  item.error = '';
  forget(item);
  try {
    if (!item.soc && Boolean(item.project) !== Boolean(item.version)) throw new Error(t('bothOrNone'));
    if (item.file.size === 0) throw new Error(t('emptyFile'));
    if (item.file.size > LARGEST) throw new Error(t('tooLarge', bytes(LARGEST)));
    if (item.soc) {
      const facts = ['project', 'version', 'bsp'].filter((key) => item[key]).map((key) => [key, item[key]]);
      const made = await makePackage(item.file, new URLSearchParams(facts));
      if (mine !== item.turn) return;
      item.made = { ...made, url: URL.createObjectURL(made.bytes) };
    }
    const head = base64(await content(item).slice(0, 4096).arrayBuffer());
    // The rules of a made package are not sent, so the bill holds for the time after its pause.
    const own = !item.soc && rules(item);
    const answer = await api('POST', 'recognise', { path: place(item).join('/'), size: content(item).size, head, ...(own && { rules: JSON.parse(own) }) });
    if (mine !== item.turn) return;
    item.answer = answer;
    item.state = answer.problem ? 'refused' : 'ready';
    item.error = answer.problem || '';
  } catch (error) {
    if (mine !== item.turn) return;
    item.state = 'refused';
    item.answer = null;
    item.error = error.message;
  }
  if (item.draw) item.draw();
}

/** Rules to send with the file, in ASCII for a header; '' if there are none. */
function rules(item) {
  const allow = item.allow.split(/[\s,;，；]+/).filter(Boolean);
  const all = {
    ...(item.paused && { paused: true }),
    ...(item.percent !== '' && { percent: Number(item.percent) }),
    ...(allow.length && { allow }),
    ...(item.soc && MADE_HERE),
  };
  const ascii = (character) => '\\u' + character.charCodeAt(0).toString(16).padStart(4, '0');
  return Object.keys(all).length ? JSON.stringify(all).replace(/[^\x20-\x7e]/g, ascii) : '';
}

async function send(item) {
  item.state = 'sending';
  item.sent = 0;
  item.draw();
  try {
    let digest = '';
    if (window.crypto && crypto.subtle && content(item).size <= HASHED) digest = base64(await crypto.subtle.digest('SHA-256', await content(item).arrayBuffer()));
    await upload(place(item).map(encodeURIComponent).join('/'), content(item), digest, rules(item), (sent) => {
      item.sent = sent;
      if (item.moved) item.moved();
    });
    item.state = 'done';
    toast(t('uploaded', place(item).pop()));
  } catch (error) {
    item.state = 'failed';
    item.error = error.message;
  }
  if (item.draw) item.draw();
}

/** States how many devices will take a file, and the data that this costs. */
function bill({ devices, of, bytes: cost }, size) {
  if (!of) return t('billNone');
  return devices ? t('bill', number(devices), number(of), bytes(size), bytes(cost)) : t('billNobody', number(of));
}

function card(item, remove) {
  const body = h('div', { role: 'status' });
  let timer;
  // Input changes how the file is recognised, and how many devices will take it. Uploading is disabled
  // until the server has answered.
  const again = () => {
    item.turn += 1;
    item.state = 'looking';
    item.sure = false;
    body.inert = true;
    clearTimeout(timer);
    timer = setTimeout(() => look(item), item.soc ? 1000 : 350);
  };
  const field = (key, label) => {
    const id = `${key}-${items.indexOf(item)}-${item.file.name}`;
    const input = h('input', { id, value: item[key], placeholder: t(item.soc && key !== 'bsp' ? 'byScript' : 'byName'), autocomplete: 'off', spellcheck: 'false', maxlength: 64 });
    input.oninput = () => {
      item[key] = input.value.trim();
      again();
    };
    return h('div.field', {}, h('label', { for: id }, label), input);
  };
  const fields = h('div.search', {}, field('project', t('project')), field('version', t('version')), item.soc && field('bsp', t('platform')));
  const rule = (key, label, props) => {
    const id = `${key}-${items.indexOf(item)}-${item.file.name}`;
    const check = props.type === 'checkbox';
    const input = h('input', { id, autocomplete: 'off', spellcheck: 'false', ...props, ...(check ? { checked: item[key] } : { value: item[key] }) });
    input.oninput = () => {
      item[key] = check ? input.checked : input.value.trim();
      again();
    };
    return check ? h('label.check', { for: id }, input, h('span', {}, label)) : h('div.field', {}, h('label', { for: id }, label), input);
  };
  const first = h('details', { hidden: item.soc,  'data-key': 'rules' }, h('summary', {}, t('rulesFirst')), h('p.small', {}, t('rulesFirstText')),
    h('div.search', {}, rule('percent', t('percentLabel') + ' (%)', { type: 'number', min: 0, max: 100, step: 'any', placeholder: '100' }), rule('allow', t('allowLabel'), { placeholder: t('any') })),
    rule('paused', t('pausedFirst'), { type: 'checkbox' }));
  const label = h('div.head', {}, h('h2', {}, item.file.name), h('span.small', {}, bytes(item.file.size)));
  const fact = (words, ...value) => h('div', {}, h('dt', {}, words), h('dd', {}, ...value));
  const acts = (...buttons) => h('div.acts', {}, ...buttons, item.state !== 'sending' && h('button', { type: 'button', onclick: () => remove(item) }, t(item.state === 'done' ? 'hide' : 'remove')));
  const element = h('li.card.file', { 'aria-label': item.file.name }, label, fields, first, body);

  item.draw = () => {
    const { answer, state } = item;
    element.dataset.state = state;
    body.inert = false;
    for (const input of [...fields.querySelectorAll('input'), ...first.querySelectorAll('input')]) input.disabled = state === 'sending' || state === 'done';
    item.moved = null;
    if (state === 'looking') { body.replaceChildren(h('p.small', {}, t(item.soc ? 'making' : 'looking'))); return; }
    const facts = answer && answer.project && h('dl.facts', {},
      fact(t('project'), h('b', {}, answer.project)), fact(t('version'), h('b', {}, answer.version || '–')),
      fact(t('kind'), said(answer.kind)), fact(t('platform'), answer.platform || t('anyPlatform')),
      answer.base_core && fact(t('fromCore'), String(answer.base_core)),
      item.soc && fact(t('core'), t('coreNotIn', answer.version.split('.')[0])),
      answer.newest && fact(t('newestHere'), answer.newest));
    if (state === 'refused' || state === 'failed') {
      put(body, facts, h('p.reason.bad', {}, icon('warn'), h('b', {}, t(state === 'failed' ? 'failedUpload' : item.soc && !item.made ? 'notMade' : 'refusedFile')), ' ', said(item.error)),
        acts(state === 'failed' && h('button.primary', { type: 'button', onclick: () => send(item) }, t('tryAgain'))));
    } else if (state === 'ready') {
      const yes = h('button.primary.upload', { type: 'button', onclick: () => send(item), disabled: answer.warnings.length > 0 && !item.sure }, icon('drop'), t(item.soc ? 'uploadPaused' : 'upload'));
      const sure = h('input', { type: 'checkbox', checked: item.sure, onchange: () => { item.sure = sure.checked; yes.disabled = !item.sure; } });
      put(body, facts,
        item.soc && h('p.note', {}, t('madeOf', item.made.name)),
        h('p.bill', {}, bill(answer.bill, content(item).size)),
        answer.bill.others.length > 0 && h('ul.small.others', {}, answer.bill.others.map((other) => h('li', {}, number(other.devices), ': ', said(other.reason)))),
        ...answer.warnings.map((warning) => h('p.reason', {}, icon('warn'), said(warning))),
        answer.warnings.length > 0 && h('label.check', {}, sure, h('span', {}, t('sure'))),
        acts(yes, item.soc && h('a.button', { href: item.made.url, download: item.made.name }, t('download'))));
    } else if (state === 'sending') {
      const bar = progress(t('uploadOf', item.file.name), 0);
      const facts = h('p.small', {});
      item.moved = () => {
        const { size } = content(item);
        bar.set((100 * item.sent) / size);
        facts.textContent = item.sent >= size ? t('checking') : t('ofBytes', bytes(item.sent), bytes(size));
      };
      item.moved();
      body.replaceChildren(bar, facts);
    } else {
      body.replaceChildren(h('p.good', {}, t(item.soc ? 'isTherePaused' : 'isThere')), acts(h('a.button', { href: '#/releases' }, t('releases'))));
    }
  };
  item.draw();
  return element;
}

export function show(main, route, context) {
  const choose = h('input', { type: 'file', multiple: true, id: 'choose', class: 'visually-hidden', onchange: () => { add([...choose.files], chosen()); choose.value = ''; } });
  const project = h('input', { id: 'to-project', autocomplete: 'off', spellcheck: 'false', placeholder: t('byName'), maxlength: 64, value: route.query.get('project') || '' });
  const version = h('input', { id: 'to-version', autocomplete: 'off', spellcheck: 'false', placeholder: t('byName'), maxlength: 64, value: route.query.get('version') || '' });
  const zone = h('label.zone', { for: 'choose' }, icon('drop'), h('b', {}, t('dropZone')), h('span.small', {}, t('dropKinds')));
  const chosen = () => ({ project: project.value.trim(), version: version.value.trim() });
  const onto = () => { zone.dataset.drop = JSON.stringify(chosen()); };
  project.oninput = onto;
  version.oninput = onto;
  onto();
  const list = h('ul.plain', {});
  const remove = (item) => {
    item.turn += 1;
    forget(item);
    items.splice(items.indexOf(item), 1);
    redraw();
    choose.focus();
  };
  redraw = () => list.replaceChildren(...items.map((item) => card(item, remove)));
  const note = h('p.note', {}, icon('lock'), t('readonly'));
  const tick = () => { note.hidden = !context.summary || context.summary.writable; };
  tick();
  main.append(h('div.title', {}, h('h1', {}, t('drop'))), note,
    choose, zone,
    h('div.search', {}, h('div.field', {}, h('label', { for: 'to-project' }, t('project')), project), h('div.field', {}, h('label', { for: 'to-version' }, t('version')), version)),
    h('p.small', {}, t('dropWhere')), list);
  redraw();
  return { tick, leave: () => { redraw = () => {}; for (const item of items) { item.draw = null; item.moved = null; } } };
}
