// Chinese text has no spaces, at which mdBook's index splits words. This builds the index again in the browser, from the
// text that the index contains, with every pair of adjacent Chinese characters as a word. A query is split in the same way.
// packaging/site.py appends it to elasticlunr, the library of the search.
"use strict";

(function () {
  const TOKEN = /[a-z0-9]+|[\u3400-\u9fff\uf900-\ufaff]+/g;

  elasticlunr.tokenizer = function (text) {
    const tokens = [];
    for (const run of String(text ?? "").toLowerCase().match(TOKEN) ?? []) {
      if (run[0] <= "z" || run.length === 1) {
        tokens.push(run);
      } else {
        for (let at = 0; at + 1 < run.length; at += 1) {
          tokens.push(run.slice(at, at + 2));
        }
      }
    }
    return tokens;
  };

  // mdBook calls this once it has loaded the index. The new index has no pipeline: its trimmer removes Chinese characters.
  elasticlunr.Index.load = function (stored) {
    const index = new elasticlunr.Index();
    index.setRef(stored.ref);
    stored.fields.forEach((field) => index.addField(field));
    Object.values(stored.documentStore.docs).forEach((document) => index.addDoc(document));
    return index;
  };
})();
