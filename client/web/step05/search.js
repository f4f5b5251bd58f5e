// ANCHOR: all
// Searching a room: what was asked, what was found, and where in a text the words are. Pure functions.

/** The server gives so many results at once. With fewer, there are no older ones. */
export const PAGE = 50;

// ANCHOR: search
/**
 * @typedef {object} Search
 * @property {boolean} isOpen
 * @property {'ready' | 'asking' | 'done' | 'failed'} phase
 * @property {number} turn which search this is, so that a late answer to an older one is told apart; 0 is none
 * @property {string} text what is looked for
 * @property {{ seq: number, id: string, from: string, text: string, at: number }[]} results newest first
 * @property {boolean} hasOlder whether there may be more
 * @property {string | null} problem
 */

/** @type {Search} */
export const initialSearch = { isOpen: false, phase: 'ready', turn: 0, text: '', results: [], hasOlder: false, problem: null };

/** @returns {Search} */
export function reduceSearch(search, action) {
  switch (action.type) {
    case 'search opened':
      return { ...initialSearch, isOpen: true };
    case 'search closed':
      return initialSearch;
    case 'searched':
      return { ...initialSearch, isOpen: true, phase: 'asking', turn: action.turn, text: action.text };
    case 'searched further':
      return { ...search, phase: 'asking', turn: action.turn, problem: null };
    case 'found':
      return action.turn === search.turn ? found(search, action.messages) : search;
    case 'not found': // not "nothing": the server could not look
      return action.turn === search.turn ? { ...search, phase: 'failed', problem: problemSentence(action.problem) } : search;
    default:
      return search;
  }
}

function found(search, messages) {
  const known = new Set(search.results.map(({ seq }) => seq));
  const results = [...search.results, ...messages.filter(({ seq }) => !known.has(seq))];
  return { ...search, phase: 'done', results, hasOlder: messages.length >= PAGE };
}

/** From where the search goes on: before the oldest result, or from the end. */
export function oldest({ results }) {
  return results.at(-1)?.seq ?? null;
}
// ANCHOR_END: search

// ANCHOR: words
/** What a search tells whoever asked. */
export function searchSentence({ phase, text, results, hasOlder, problem }) {
  if (phase === 'asking') return 'Searching…';
  if (phase === 'failed') return problem;
  if (phase === 'ready') return '';
  if (results.length === 0) return `Nothing found for “${text}”.`;
  if (hasOlder) return `The newest ${results.length} messages with “${text}”`;
  return results.length === 1 ? '1 message found' : `${results.length} messages found`;
}

function problemSentence({ code, message, retry_after: after = 0 }) {
  if (code === 'empty_text') return 'Enter a word to search for.';
  const wait = after > 0 ? ` Try again in ${Math.ceil(after / 1000)} s.` : '';
  return code === 'rate_limited' ? `Too many searches.${wait}` : `${message}${wait}`;
}
// ANCHOR_END: words

// ANCHOR: pieces
/**
 * A text in pieces, those that were searched for apart from those between them. As for the server,
 * letters with and without accents are the same, and the last word may be the beginning of one.
 *
 * @returns {{ text: string, isHit: boolean }[]}
 */
export function pieces(text, asked) {
  const words = wordsOf(asked).map(plain).filter((word) => word !== '');
  // The words of the text are what `split` gives at every other place.
  const all = text.split(/([\p{L}\p{N}\p{M}]+)/u).map((part, n) => ({ text: part, isHit: n % 2 === 1 && isHit(part, words) }));
  return all.filter((piece) => piece.text !== '');
}

function wordsOf(text) {
  return text.match(/[\p{L}\p{N}\p{M}]+/gu) ?? [];
}

function isHit(word, words) {
  return words.includes(plain(word)) || (words.length > 0 && plain(word).startsWith(words.at(-1)));
}

function plain(word) {
  return word.normalize('NFKD').replace(/\p{M}/gu, '').toLowerCase();
}
// ANCHOR_END: pieces
// ANCHOR_END: all
