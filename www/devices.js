// Devices: list, update progress of each, and lifting of holds. A fleet may have 200,000 devices, so the
// list is read page by page, and the server does the search.

import { ago, answerOrder, api, ask, button, bytes, exact, exports, h, icon, number, put, said, span, t, toast } from './base.js';
import { result } from './explain.js';

const SORTS = ['last_seen', 'first_seen', 'id', 'project', 'version', 'platform', 'state'];
const COLUMNS = { last_seen: 'lastSeen', first_seen: 'firstSeen', id: 'id', project: 'project', version: 'version', platform: 'platform', state: 'stateIs' };
/** Keys of WORDS for steps that are not states. */
const STEPS = { seen: 'firstSeen', version: 'otherVersion', refused: 'refused' };
const STATES = ['offered', 'downloading', 'sent', 'delivered', 'waiting', 'confirmed', 'reverted', 'silent'];

/** Current holds of a device. A hold without `until` is only a count. */
const holds = (device) => device.held.filter((hold) => hold.until && new Date(hold.until) > Date.now());

const share = (journey) => (journey.size ? Math.min(100, Math.floor((100 * journey.reached) / journey.size)) : 0);

/** Progress bar that screen readers can read. */
export function progress(label, value) {
  const fill = h('i', {});
  const bar = h('div.progress', { role: 'progressbar', 'aria-label': label, 'aria-valuemin': 0, 'aria-valuemax': 100 }, fill);
  bar.set = (percent) => {
    bar.setAttribute('aria-valuenow', Math.round(percent));
    fill.style.transform = `scaleX(${percent / 100})`;
  };
  bar.set(value);
  return bar;
}

const stateOf = (device) => device.journey && h('span.state.' + device.journey.state, {}, t(device.journey.state),
  device.journey.state === 'downloading' && ` ${share(device.journey)}\u00a0%`);

function line(device) {
  return h('li', {}, h('a.device', { href: '#/devices/' + encodeURIComponent(device.id) },
    h('code.id', {}, device.id || '–'),
    h('span.small.when', {}, ago(device.last_seen)),
    h('span.what', {}, device.name && device.name + ' · ', device.project, ' ', h('b', {}, device.version)),
    h('span.how', {}, stateOf(device), holds(device).length > 0 && h('span.state.held', {}, t('held'))), icon('go')));
}

// ---- one device

function steps(journey) {
  const ends = { reverted: 'reverted', silent: 'silent' };
  const has = { sent: 'sent', waiting: 'waiting' }[journey.state] || 'delivered';
  const way = ['offered', 'downloading', has, ends[journey.state] || 'confirmed'];
  const at = journey.state === 'silent' && journey.reached < journey.size ? 3 : way.indexOf(journey.state);
  return h('ol.steps', {}, way.map((state, n) =>
    h('li' + (n < at ? '.done' : n === at ? '.now.' + state : ''), n === at ? { 'aria-current': 'step' } : {}, h('span', {}, t(state)))));
}

function one(main, id) {
  const body = h('div', {});
  main.append(h('div.title', {}, h('a.back', { href: '#/devices' }, icon('back'), t('devices')), h('h1', {}, h('code', {}, id))), body);
  let gone = false;
  let last = '';

  async function release(device) {
    if (!await ask(t('liftTitle', id), [h('p', {}, t('liftMeans'))], t('lift'))) return;
    await api('DELETE', `devices/${encodeURIComponent(device.id)}/hold`).then(() => toast(t('lifted', id)), (error) => toast(error.message, true));
    load();
  }

  const fact = (words, ...value) => h('div', {}, h('dt', {}, words), h('dd', {}, ...value));

  function draw(device) {
    const { journey } = device;
    const query = new URLSearchParams({ request: device.request });
    put(body,
      h('dl.facts.card', {},
        device.name && fact(t('deviceName'), device.name), fact(t('project'), device.project || '–'), fact(t('version'), h('b', {}, device.version || '–')),
        fact(t('lastSeen'), ago(device.last_seen)), fact(t('firstSeen'), ago(device.first_seen)),
        fact(t('interval'), device.interval_seconds ? span(device.interval_seconds).replace(/^(in )?|后$|內$/g, '') : t('unknown')),
        (device.listed || device.probation) && fact(t('standing'), t(device.listed ? 'listed' : 'probation')),
        device.platform && fact(t('platform'), device.platform), device.core !== null && fact(t('coreVersion'), String(device.core)),
        device.network && fact(t('network'), device.network), fact(t('askedOver'), device.protocol === 'udp' ? 'UDP / TCP' : 'HTTP'),
        h('div.long', {}, h('dt', {}, t('lastRefusal')), h('dd', {}, device.last_refusal ? [said(device.last_refusal.reason), h('span.small', {}, ' · ', ago(device.last_refusal.time))] : '–'))),
      h('section.card', {}, h('h2', {}, t('updateProgress')),
        journey ? [h('p', {}, h('span', {}, journey.from), ' → ', h('b', {}, journey.version), h('span.small', {}, ' · ', ago(journey.since))), steps(journey),
          progress(t('updateProgress'), share(journey)), h('p.small', {}, t('ofBytes', bytes(journey.reached), bytes(journey.size)), ` · ${share(journey)}\u00a0% · SHA-256 `, h('code', {}, journey.sha256.slice(0, 16) + '…'))]
          : h('p.small', {}, t('noJourney'))),
      holds(device).length > 0 && h('section.card.warn', {}, h('h2', {}, icon('lock'), t('heldTitle')), h('p', {}, t('heldMeans')),
        h('ul.plain', {}, holds(device).map((hold) => h('li', {}, h('code', {}, hold.sha256.slice(0, 16) + '…'), ' ',
          t('heldFacts', number(hold.reverts), bytes(hold.sent)), ' · ', t('until'), ' ', ago(hold.until)))),
        button('lift', 'resume', t('lift'), () => release(device), '.primary')),
      device.now ? result(device.now, h('p.small', {}, t('byLastRequest'), ' ', ago(device.last_seen)), h('p', {}, h('code', {}, device.request)))
        : h('section.card', {}, h('h2', {}, t('getsNow')), h('p.small', {}, t('requestUnknown'))),
      h('section.card', {}, h('div.title', {}, h('h2', {}, t('lastSteps')), exports('devices/' + encodeURIComponent(device.id))),
        h('ol.log', {}, device.steps.map((step) => h('li', {}, exact(step.time), h('span.state.' + step.step, {}, t(STEPS[step.step] || step.step)),
          h('span', {}, step.version && h('b', {}, step.version), step.reason && said(step.reason))))),
        device.first_seen < device.steps_since && h('p.small', {}, t('stepsSince'), ' ', exact(device.steps_since))),
      h('p', {}, h('a.button', { href: '#/explain?' + query }, icon('explain'), t('whyThis'))));
  }

  const order = answerOrder();

  async function load() {
    const isLate = order();
    try {
      const device = await api('GET', 'devices/' + encodeURIComponent(id));
      const text = JSON.stringify(device);
      if (gone || isLate() || text === last) return;
      last = text;
      draw(device);
    } catch (error) {
      if (!gone && !last) body.replaceChildren(h('p.note', {}, icon('warn'), error.message));
    }
  }
  load();
  return {
    tick: load,
    onEvent: (kind, data) => { if (data.device === id) load(); },
    leave: () => { gone = true; },
  };
}

// ---- all devices

export function show(main, route) {
  if (route.id) return one(main, route.id);
  const field = (name, label, props) => {
    const input = h('input', { id: 'd-' + name, name, autocomplete: 'off', spellcheck: 'false', value: route.query.get(name) || '', ...props });
    return h(name === 'search' ? 'div.field.wide' : 'div.field', {}, h('label', { for: 'd-' + name }, label), input);
  };
  const state = h('select', { id: 'd-state', name: 'state' }, h('option', { value: '' }, t('any')), STATES.map((one) => h('option', { value: one }, t(one))));
  state.value = route.query.get('state') || '';
  const sort = h('select', { id: 'd-sort', name: 'sort' }, SORTS.flatMap((one) => ['-', ''].map((sign) =>
    h('option', { value: one === 'last_seen' && sign ? '' : sign + one }, t(COLUMNS[one]) + (sign ? ' ↓' : ' ↑')))));
  sort.value = route.query.get('sort') || '';
  if (!route.query.get('search') && route.query.get('imei')) route.query.set('search', route.query.get('imei'));
  const held = h('input', { type: 'checkbox', id: 'd-held', name: 'held', value: '1', checked: route.query.get('held') === '1' });
  const form = h('form.search', { role: 'search', onsubmit: (event) => { event.preventDefault(); load(); } },
    field('search', t('searchFor'), { type: 'search', placeholder: '3386' }), field('project', t('project')), field('version', t('version')), field('platform', t('platform')), field('to', t('toRelease')),
    h('div.field', {}, h('label', { for: 'd-state' }, t('stateIs')), state), h('div.field', {}, h('label', { for: 'd-sort' }, t('sortBy')), sort),
    h('label.check', { for: 'd-held' }, held, h('span', {}, t('onlyHeld'))));
  const count = h('p.small', { role: 'status' });
  const list = h('ul.devices', {});
  const more = h('div.more', {});
  const wanted = () => [...new FormData(form)].filter(([, value]) => value.trim()).map(([key, value]) => [key, value.trim()]);
  main.append(h('div.title', {}, h('h1', {}, t('devices')), exports('devices', () => wanted().filter(([key]) => key !== 'sort'))), form, count, list, more);

  let turn = 0;
  let found = 0;
  let timer;

  async function load(after = null) {
    turn += 1;
    const mine = turn;
    const query = new URLSearchParams(wanted());
    const text = query.toString();
    history.replaceState(null, '', '#/devices' + (text ? '?' + text : ''));
    if (!query.get('sort')) query.set('sort', '-last_seen');
    query.set('limit', '50');
    if (after) query.set('after', after);
    try {
      const page = await api('GET', 'devices?' + query);
      if (mine !== turn) return;
      if (!after) { list.replaceChildren(); found = 0; }
      found += page.devices.length;
      const first = page.devices.map(line);
      list.append(...first);
      if (after && first.length) first[0].firstChild.focus();
      count.textContent = page.total === 0 ? t('noDevices') : !found ? t('noneFits')
        : t('matchOf', number(page.matching), number(page.total)) + (found < page.matching ? t('shownOf', number(found)) : '');
      more.replaceChildren(...(page.next ? [button('more', null, t('more'), () => load(page.next))] : []));
    } catch (error) {
      if (mine === turn) count.replaceChildren(said(error.message));
    }
  }
  form.oninput = () => { clearTimeout(timer); timer = setTimeout(() => load(), 250); };
  load();
  return { leave: () => { turn += 1; clearTimeout(timer); } };
}
