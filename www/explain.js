// Explain: why a module gets its reply. The server uses the function that answers modules.

import { api, h, icon, said, t } from './base.js';

/** Card with an explanation of the server. `before` is placed above the reason. */
export function result(answer, ...before) {
  const offer = answer.verdict === 'offer';
  const notes = new Map();
  for (const note of answer.notes) {
    if (!notes.has(note.release)) notes.set(note.release, []);
    notes.get(note.release).push(note.text);
  }
  const words = t(offer ? 'getsRelease' : 'getsNothing', answer.release || '');
  return h('article.card.verdict.' + (offer ? 'offer' : 'refuse'), { 'aria-label': words },
    h('h2', {}, icon(offer ? 'drop' : 'lock'), words),
    ...before, said(answer.reason, 'p'),
    offer && answer.package && h('p', {}, h('code', {}, answer.package)),
    h('dl.facts', {},
      answer.http && h('div', {}, h('dt', {}, 'HTTP'), h('dd', {}, String(answer.http.status), answer.http.code !== null && answer.http.code !== undefined && ` · ${t('code')} ${answer.http.code}`)),
      answer.udp && h('div', {}, h('dt', {}, 'UDP'), h('dd', {}, h('code', {}, answer.udp)))),
    h('h3', {}, t('looked')),
    h('ol.notes', {}, [...notes].map(([release, texts]) => h('li', {}, h('b', {}, release || t('theCheck')), h('ul', {}, texts.map((text) => h('li', {}, said(text))))))));
}

export function show(main, route) {
  const paste = h('textarea', { id: 'request', rows: 4, spellcheck: 'false', autocomplete: 'off', placeholder: '/luat/update?project_key=…&imei=862991443753386&firmware_name=ALIYUN_Luat_V0017_ASR1802&version=2.0.0' });
  const field = (name, label, props) => h(props.required || name === 'imei' ? 'div.field.wide' : 'div.field', {}, h('label', { for: 'e-' + name }, label),
    h('input', { id: 'e-' + name, name, autocomplete: 'off', spellcheck: 'false', value: route.query.get(name) || '', ...props }));
  const proto = h('select', { id: 'e-proto', name: 'proto' }, ['http', 'udp'].map((one) => h('option', { value: one }, one.toUpperCase())));
  const out = h('div', { role: 'status' });

  let asked = 0;

  async function ask(request) {
    asked += 1;
    const mine = asked;
    out.classList.add('busy');
    const shown = await api('POST', 'explain', request).then(result, (error) => h('p.note', {}, icon('warn'), said(error.message)));
    if (mine !== asked) return;
    out.replaceChildren(shown);
    out.classList.remove('busy');
    if (out.getBoundingClientRect().top > innerHeight - 120) out.scrollIntoView({ block: 'nearest' });
  }
  const fields = h('form.card.search', { onsubmit: (event) => { event.preventDefault(); ask(Object.fromEntries([...new FormData(fields)].filter(([, value]) => value.trim()).map(([key, value]) => [key, value.trim()]))); } },
    h('h2', {}, t('byFields')),
    field('imei', 'IMEI', { inputmode: 'numeric', placeholder: '862991443753386' }), field('firmware_name', t('firmwareName'), { placeholder: 'ALIYUN_Luat_V0017_ASR1802', required: true }), field('version', t('version'), { placeholder: '2.0.0', required: true }),
    field('core_version', t('coreVersion'), { placeholder: t('optional') }), field('project_key', t('projectKey'), { placeholder: t('optional') }), h('div.field', {}, h('label', { for: 'e-proto' }, t('askedOver')), proto),
    h('div.actions', {}, h('button.primary', { type: 'submit' }, t('explainIt'))));
  main.append(h('div.title', {}, h('h1', {}, t('explain'))), h('p.lead', {}, t('explainLead')),
    h('div.two', {},
      h('form.card', { onsubmit: (event) => { event.preventDefault(); if (paste.value.trim()) ask({ request: paste.value.trim() }); } },
        h('h2', {}, t('byRequest')), h('label', { for: 'request' }, t('requestLabel')), paste, h('div.actions', {}, h('button.primary', { type: 'submit' }, t('explainIt')))),
      fields), out);
  const explain = (request) => { paste.value = request; ask({ request }); };
  const device = route.query.get('device');
  if (route.query.get('request')) explain(route.query.get('request'));
  else if (device) api('GET', 'devices/' + encodeURIComponent(device)).then((found) => { if (!paste.value) explain(found.request); }, (error) => out.replaceChildren(h('p.note', {}, icon('warn'), said(error.message))));
  else if (route.query.get('firmware_name')) fields.requestSubmit();
  return {};
}
