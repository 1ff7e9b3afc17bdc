// Rules of one release: actions and an editor. Before anything is written, the server counts the devices that would
// get another reply; the page does not count.

import { answerOrder, api, ask, button, h, icon, moment, number, reconcile, said, t, toast } from './base.js';

export const name = (release) => release.project + ' ' + release.version;
const path = (release) => [release.project, release.version].map(encodeURIComponent).join('/');
export const link = (release) => '#/releases/' + encodeURIComponent(release.project + '/' + release.version);

// ---- previews

const list = (counts) => h('ul.plain', {}, counts.map((one) => h('li', {}, number(one.devices), ': ', one.version || said(one.reason))));

/** Numbers of a preview, for the release that is edited first. */
export function effect(answer) {
  const { counts, edits: [{ version }] } = answer;
  if (!counts) return [h('p.reason.bad', {}, t('notCounted'))];
  if (!counts.devices) return [h('p', {}, t('billNone'))];
  const { before, after } = counts.releases.find((one) => one.version === version);
  const others = counts.releases.filter((one) => one.version !== version && one.before !== one.after);
  return [
    h('p.bill', {}, t('mayHave', number(after), number(counts.devices), number(before), version)),
    h('p', {}, t('changedFor', number(counts.changed))),
    others.map((one) => h('p', {}, t('alsoChanges', one.version, number(one.before), number(one.after)))),
    new Date(counts.at.after) - Date.now() > 60000 && h('p.small', {}, t('countedAt', moment(counts.at.after))),
    counts.others.length > 0 && h('details', { 'data-key': 'others' }, h('summary', {}, t('whyNot')), list(counts.others))];
}

/** Passes previews of `edits()` to `draw`, with one request at a time; `changed` requests another. An answer to earlier
 * edits is not drawn. If the server does not answer, the request is repeated. */
function previews(project, edits, draw) {
  let timer = null;
  let busy = false;
  let again = false;
  let turn = 0;
  const later = (ms) => { clearTimeout(timer); timer = setTimeout(run, ms); };
  async function run() {
    if (busy) { again = true; return; }
    busy = true;
    const mine = turn;
    const answer = await api('POST', 'preview', { project, edits: edits() }).catch((error) => ({ error: error.message, status: error.status }));
    busy = false;
    if (again) { again = false; run(); return; }
    if (mine !== turn) return;
    if (answer.status === 0 || answer.status >= 500) later(5000);
    draw(answer);
  }
  run();
  return { changed: () => { turn += 1; later(300); }, leave: () => { turn += 1; again = false; clearTimeout(timer); } };
}

/** Box with the effect of edits of `release`. */
function effects(release, keys, more) {
  const box = h('div.effect', { role: 'status' }, t('counting'));
  const asked = previews(release.project, () => [{ version: release.version, ...(keys && { keys: keys() }), ...more }],
    (answer) => box.replaceChildren(...(answer.error ? [said(answer.error, 'p')] : effect(answer)).flat().filter(Boolean)));
  return { box, ...asked };
}

// ---- actions

function change(release, what, body, done) {
  return api('POST', `releases/${path(release)}/${what}`, body).then(() => { toast(done); }, (error) => toast(error.message, true));
}

export async function pause(release, again) {
  const field = h('input', { id: 'reason', maxlength: 120, autocomplete: 'off' });
  const { box, leave } = effects(release, () => ({ paused: true }));
  const reason = await ask(t('pauseTitle', name(release)), [h('p', {}, t('pauseMeans')), box, h('label', { for: 'reason' }, t('pauseReason')), field],
    t('pause'), () => ({ reason: field.value.trim() || null }));
  leave();
  if (reason) change(release, 'pause', reason.reason ? reason : {}, t('paused', name(release))).then(again);
}

export async function resume(release, again) {
  const fused = release.state === 'fused';
  const { box, leave } = effects(release, () => ({ paused: false }));
  const rows = [fused && said(release.reason || '', 'p'), h('p', {}, t(fused ? 'resumeFused' : 'resumeMeans')), box];
  const sure = await ask(t('resumeTitle', name(release)), rows, t('resume'), () => true, fused);
  leave();
  if (sure) change(release, 'resume', {}, t('resumed', name(release))).then(again);
}

export async function percent(release, again) {
  const now = release.percent ?? 100;
  const range = h('input', { type: 'range', id: 'percent', min: 0, max: 100, step: 1, value: String(now), 'aria-describedby': 'means' });
  const field = h('input', { type: 'number', min: 0, max: 100, step: 'any', value: String(now), inputmode: 'decimal', 'aria-label': t('percent') });
  const means = h('p', { id: 'means', 'aria-live': 'polite' });
  const wanted = () => Math.min(100, Math.max(0, field.value === '' ? now : Number(field.value)));
  const { box, changed, leave } = effects(release, () => ({ percent: wanted() >= 100 ? null : wanted(), stages: null }));
  const explain = () => {
    const n = Number(field.value);
    means.textContent = t(n >= 100 ? 'percentAll' : n > 0 ? 'percentMeans' : 'percentNone', field.value);
    changed();
  };
  range.oninput = () => { field.value = range.value; explain(); };
  field.oninput = () => { range.value = field.value; explain(); };
  explain();
  const chosen = await ask(t('percentTitle', name(release)), [h('label', { for: 'percent' }, t('percentLabel')), h('div.percent', {}, range, field, '%'), means, box, h('p.small', {}, t('percentStay'))],
    t('set'), () => ({ percent: wanted() }));
  leave();
  if (!chosen) return;
  const n = chosen.percent;
  change(release, 'percent', { percent: n >= 100 ? null : n }, t('percentDone', name(release), n)).then(again);
}

/** Moves the release aside; resolves to whether it was. */
async function retire(release) {
  const { box, leave } = effects(release, null, { retire: true });
  const sure = await ask(t('retireTitle', name(release)), [h('p', {}, t('retireMeans')), box,
    h('p.small', {}, t('retireUndo'), ' ', h('code', {}, `mv firmware/.retired/${release.project}/${release.version} firmware/${release.project}/${release.version}`))], t('retire'), () => true, true);
  leave();
  return sure && api('POST', `releases/${path(release)}/retire`, {}).then(
    ({ moved }) => { toast(t('retired', name(release), moved.map((one) => one.to).join(', '))); return true; },
    (error) => { toast(error.message, true); return false; });
}

/** States what the devices that run the release would get. */
function after(counts, version) {
  const { devices, offered, others } = counts.running.find((one) => one.version === version);
  return h('div', {}, h('p', {}, t('runIt', number(devices), version)),
    h('ul.plain', {}, offered.map((one) => h('li', {}, t('getIt', number(one.devices), one.version))),
      others.map((one) => h('li', {}, t('keepIt', number(one.devices)), ' ', said(one.reason)))));
}

/** Pauses the release and replaces it by another one. `all`: the releases of the project, the newest first. */
async function rollBack(release, all, again) {
  const at = all.findIndex((one) => one.version === release.version);
  const rest = all.filter((one) => one.version !== release.version);
  const to = h('select', { id: 'to' }, rest.map((one) => h('option', { value: one.version }, one.version)));
  to.value = (all[at + 1] || rest[0]).version;
  const only = h('textarea', { id: 'only', rows: 3, autocomplete: 'off', spellcheck: 'false', placeholder: t('any') });
  const keys = h('p.small', {});
  const box = h('div.effect', { role: 'status' }, t('counting'));
  let answer = null;
  const edits = () => {
    const target = all.find((one) => one.version === to.value);
    const own = target.rules || {};
    const chosen = lines(only.value);
    const changes = {
      ...(all.indexOf(target) > at && { allow_downgrade: true }),
      ...Object.fromEntries(['paused', 'percent', 'stages', 'from'].filter((key) => key in own).map((key) => [key, key === 'paused' ? false : null])),
      ...(chosen.length && { allow: chosen }),
    };
    const both = [{ version: to.value, keys: changes }, { version: release.version, keys: { paused: t('backTo', to.value) } }];
    keys.replaceChildren(...both.map((edit) => h('code', {}, `${edit.version}: ${JSON.stringify(edit.keys)} `)));
    return both;
  };
  const { changed, leave } = previews(release.project, edits, (reply) => {
    answer = reply.counts ? reply : null;
    const errors = reply.edits ? reply.edits.flatMap((edit) => edit.errors.map((error) => said(error.text, 'p.reason.bad'))) : [said(reply.error, 'p')];
    box.replaceChildren(...errors, ...(answer ? [after(answer.counts, release.version), ...effect(answer)].flat().filter(Boolean) : []));
  });
  to.onchange = only.oninput = () => { answer = null; changed(); };
  const rows = [h('p', {}, t('rollBackMeans')), h('label', { for: 'to' }, t('rollBackTo')), to, h('label', { for: 'only' }, t('rollBackOnly')), only,
    box, h('p.small', {}, t('rollBackNote')), h('p.small', {}, t('writes')), keys];
  // Only edits with a preview are written.
  const sure = await ask(t('rollBackTitle', name(release)), rows, t('rollBack'), () => answer || undefined, true);
  leave();
  if (!sure) return;
  try {
    // The pause comes first. Otherwise devices could be offered the release again.
    for (const edit of [...sure.edits].reverse()) await put({ ...release, version: edit.version }, edit.text, edit.etag);
    toast(t('rolledBack', name(release), sure.edits[0].version));
  } catch (error) {
    toast(t('rollBackHalf') + ' ' + error.message, true);
  }
  again();
}

/** Writes a release.json that replaces the one with this tag. */
const put = (release, text, etag) => api('PUT', 'rules/' + path(release), text, etag ? { 'If-Match': etag } : { 'If-None-Match': '*' });

// ---- the editor

/** Returns the offset of the browser's clock from UTC at a time: `+08:00`. */
function offset(date) {
  const minutes = -date.getTimezoneOffset();
  const two = (n) => String(Math.floor(n)).padStart(2, '0');
  return (minutes < 0 ? '-' : '+') + two(Math.abs(minutes) / 60) + ':' + two(Math.abs(minutes) % 60);
}

const lines = (text) => text.split(/[\s,;，；]+/).filter(Boolean);
const text = { show: (value) => value ?? '', read: (value) => value.trim() || null };
const ids = { rows: 3, show: (value) => (Array.isArray(value) ? value.join('\n') : ''), read: (value) => (value.trim() ? lines(value) : null) };

/** Fields of the form by key of release.json: `show` formats the value, `read` parses the input. */
const FIELDS = {
  percent: { props: { type: 'number', min: 0, max: 100, step: 'any', inputmode: 'decimal', placeholder: '100' }, show: (value) => value ?? '', read: (value) => (value === '' ? null : Number(value)) },
  stages: {
    props: { placeholder: '1, 10 24h, 100 48h' },
    show: (value) => (Array.isArray(value) ? value.map(({ percent, after }) => (after ? `${percent} ${after}` : percent)).join(', ') : ''),
    read: (value) => {
      const stages = value.split(/[,，]/).map((one) => one.trim()).filter(Boolean);
      return stages.length ? stages.map((one) => { const [share, after] = one.split(/\s+/); return { percent: Number(share), ...(after && { after }) }; }) : null;
    },
  },
  from: {
    props: { placeholder: '1.9.0-2.0.0' },
    show: (value) => (Array.isArray(value) ? value.join(', ') + (value.length === 1 ? ',' : '') : value ?? ''),
    // A comma makes the value a list of exact texts.
    read: (value) => (/[,，]/.test(value) ? value.split(/[,，]/).map((one) => one.trim()).filter(Boolean) : value.trim() || null),
  },
  allow: { ...ids, props: { placeholder: '862991443753386\n862991443753000-862991443753999' } },
  deny: { ...ids, props: {} },
  window: { ...text, props: { placeholder: '01:00-05:00' + offset(new Date()) } },
  not_before: {
    props: { type: 'datetime-local' },
    show: (value) => { const date = new Date(value || NaN); return isNaN(date) ? '' : new Date(date - date.getTimezoneOffset() * 60000).toISOString().slice(0, 16); },
    read: (value) => (value ? `${value}:00${offset(new Date(value))}` : null),
  },
  reboot_within: { ...text, props: { placeholder: '12h' } },
  fuse: {
    props: { placeholder: '3, 20' },
    show: (value) => (value ? `${value.devices}, ${value.percent}` : ''),
    read: (value) => { const [devices, share] = lines(value).map(Number); return value.trim() ? { devices, ...(share !== undefined && { percent: share }) } : null; },
  },
};

function parsed(source) {
  try { const value = JSON.parse(source); return value && typeof value === 'object' ? value : null; } catch { return null; }
}

/** Form, text and their preview. */
function editor(release, saved) {
  /** `text` to be written, the file's text (`from`) and tag, and `keys` that are not yet in the text. */
  const state = { text: null, from: null, etag: null, keys: {} };
  const inputs = {};
  const wrong = {};
  const field = (key) => {
    const { props, rows } = FIELDS[key];
    const id = 'r-' + key;
    wrong[key] = h('p.reason.bad', { id: 'e-' + key });
    inputs[key] = h(rows ? 'textarea' : 'input', { id, rows, autocomplete: 'off', spellcheck: 'false', disabled: true, 'aria-describedby': `h-${key} e-${key}`, ...props });
    inputs[key].oninput = () => { state.keys[key] = FIELDS[key].read(inputs[key].value); typed(); };
    return h(rows ? 'div.field.wide' : 'div.field', {}, h('label', { for: id }, t('r_' + key), ' ', h('code', {}, key)), inputs[key], h('p.small', { id: 'h-' + key }, t('h_' + key)), wrong[key]);
  };
  const form = h('div.search', {}, Object.keys(FIELDS).map(field));
  const raw = h('textarea', { id: 'raw', rows: 10, spellcheck: 'false', autocomplete: 'off', 'aria-label': 'release.json', 'aria-describedby': 'problems' });
  const problems = h('ul.plain', { id: 'problems', role: 'status' });
  const box = h('div.effect', { role: 'status' }, t('counting'));
  const save = h('button.primary', { type: 'submit', disabled: true }, t('save'));
  const undo = button('undo', null, t('undo'), () => { state.etag = null; begin(); });
  const stale = h('p.note', { hidden: true }, icon('warn'), t('changedThere'));
  raw.oninput = () => { state.text = raw.value; state.keys = {}; typed(); };

  let leave = () => {};
  let changed = () => {};
  function typed() { save.disabled = true; changed(); }

  /** Starts again from the file in the folder. */
  function begin() {
    leave();
    save.disabled = true;
    Object.assign(state, { text: null, keys: {} });
    const edits = () => [{ version: release.version, keys: state.keys, ...(state.text !== null && { text: state.text }) }];
    ({ leave, changed } = previews(release.project, edits, (answer) => {
      if (answer.error) { box.replaceChildren(said(answer.error, 'p')); return; }
      const [edit] = answer.edits;
      if (state.etag === null) Object.assign(state, { etag: edit.etag, from: edit.text });
      Object.assign(state, { text: edit.text, keys: {} });
      draw(edit, answer);
    }));
  }

  function draw(edit, answer) {
    if (document.activeElement !== raw) raw.value = edit.text;
    const object = parsed(edit.text);
    for (const [key, input] of Object.entries(inputs)) {
      input.disabled = !object;
      if (object && document.activeElement !== input) input.value = FIELDS[key].show(object[key]);
      const errors = edit.errors.filter((error) => error.key === key);
      wrong[key].replaceChildren(...errors.map((error) => said(error.text)));
      input.setAttribute('aria-invalid', String(errors.length > 0));
    }
    raw.setAttribute('aria-invalid', String(edit.errors.length > 0));
    problems.replaceChildren(...edit.errors.map((error) => {
      const at = error.key === null ? -1 : edit.text.indexOf(JSON.stringify(error.key));
      const line = edit.text.slice(0, at).split('\n').length;
      const jump = () => { raw.focus(); raw.setSelectionRange(at, at + error.key.length + 2); };
      return h('li.reason.bad', {}, at >= 0 && h('button', { type: 'button', onclick: jump }, t('line', line), ' ', h('code', {}, error.key)), ' ', said(error.text));
    }));
    stale.hidden = edit.etag === state.etag;
    box.replaceChildren(...effect(answer).flat().filter(Boolean));
    if (object && object.paused) box.append(h('p.small', {}, t('isPausedHere')));
    const same = edit.text === state.from;
    undo.disabled = same && stale.hidden;
    save.disabled = same || !stale.hidden || edit.errors.length > 0;
  }

  async function write(event) {
    event.preventDefault();
    const active = document.activeElement;
    // Input would be lost when the file is read again.
    element.inert = true;
    try {
      await put(release, state.text, state.etag);
      toast(t('saved', name(release)));
      state.etag = null;
      begin();
      saved();
    } catch (error) {
      toast(error.message, true);
      typed();
    }
    element.inert = false;
    if (document.activeElement === document.body) active.focus();
  }

  begin();
  const element = h('form.card.rules', { onsubmit: write }, h('h2', {}, t('rules')), h('p.small', {}, t('rulesMeans')), form,
    h('details', { 'data-key': 'raw' }, h('summary', {}, t('rawRules')), raw, problems),
    stale, box, h('div.acts', {}, save, undo));
  return { element, changed: () => changed(), leave: () => leave() };
}

/** View of one release: its card and its rules. `draw` makes the card. */
export function one(main, id, context, draw) {
  const [, project, version] = /^(.*)\/(.*)$/.exec(id) || [];
  const body = h('div', {});
  const at = h('div', {});
  main.append(h('div.title', {}, h('a.back', { href: '#/releases' }, icon('back'), t('releases')), h('h1', {}, id.replace('/', ' '))), at, body);
  let gone = false;
  let shown = false;
  let rules = null;
  let all = [];
  const order = answerOrder();

  async function releases() {
    const all = [];
    for (let after = ''; after !== null;) {
      const page = await api('GET', 'releases?limit=500&project=' + encodeURIComponent(project) + (after && '&after=' + encodeURIComponent(after)));
      all.push(...page.releases);
      after = page.next;
    }
    return all;
  }

  async function load() {
    const isLate = order();
    try {
      const read = await releases();
      if (gone || isLate()) return;
      all = read;
      const found = all.find((one) => one.version === version);
      if (!found) throw new Error(t('noRelease', id));
      const release = { ...found, writable: !context.summary || context.summary.writable };
      shown = true;
      const acts = [all.length > 1 && button('rollback', 'back', t('rollBack') + '…', () => rollBack(release, all, load)),
        button('retire', null, t('retire') + '…', () => retire(release).then((done) => { if (done && !gone) location.hash = '#/releases'; }))];
      reconcile(at, [{ ...release, others: all.length > 1 }], () => id, () => draw(release, load, acts));
      if (rules || !context.summary || !context.summary.writable) return;
      rules = editor(release, load);
      body.replaceChildren(rules.element);
    } catch (error) {
      if (!gone && !shown) at.replaceChildren(h('p.note', {}, icon('warn'), error.message));
    }
  }
  load();
  return { tick: load, onEvent: (kind) => { if (kind === 'catalog') { load(); if (rules) rules.changed(); } }, leave: () => { gone = true; if (rules) rules.leave(); } };
}
