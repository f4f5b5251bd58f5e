// ANCHOR: all
// The form to sign in and to sign up: in which mode it is, and what the server said about it. Pure functions.

/** The server has the same limits. */
const PASSWORD = { least: 8, most: 256 };

/** At which field an error is shown; all others belong to the form. */
const FIELDS = { bad_name: 'nameError', name_taken: 'nameError', bad_password: 'passwordError', unauthorized: 'passwordError' };

// ANCHOR: account
/**
 * @typedef {object} Account
 * @property {boolean} isKnown whether the server has said if somebody is signed in
 * @property {'sign in' | 'sign up'} mode
 * @property {boolean} isBusy whether the server has the form and has not answered
 * @property {string | null} nameError
 * @property {string | null} passwordError
 * @property {string | null} formError
 * @property {string | null} leaveError why nobody was signed out
 * @property {number} notBefore when the server takes the form again
 * @property {string | null} somebody who else has signed in in this browser, while this page was another one's
 */

const noErrors = { nameError: null, passwordError: null, formError: null };

/** @type {Account} */
export const initialAccount = { isKnown: false, mode: 'sign in', isBusy: false, ...noErrors, leaveError: null, notBefore: 0, somebody: null };

/** @returns {Account} */
export function reduceAccount(account, action) {
  switch (action.type) {
    case 'mode chosen':
      return { ...account, ...noErrors, mode: action.mode };
    case 'form sent':
      return { ...account, ...noErrors, isBusy: true };
    case 'form refused':
      return refused(account, action);
    case 'recognized': // by the cookie; `name` is null if there is none
      return { ...account, isKnown: true };
    case 'start':
      return { ...initialAccount, isKnown: true };
    case 'stopped':
      return { ...account, mode: 'sign in', somebody: action.somebody ?? null };
    case 'signed out':
      return { ...initialAccount, isKnown: account.isKnown, isBusy: account.isBusy, notBefore: account.notBefore };
    case 'not signed out':
      return { ...account, leaveError: `You are still signed in: ${action.problem.message}` };
    default:
      return account;
  }
}
// ANCHOR_END: account

// ANCHOR: refused
function refused(account, { problem, now }) {
  const { code, message, retry_after: after = 0 } = problem;
  const field = FIELDS[code] ?? 'formError';
  return { ...account, isKnown: true, isBusy: false, ...noErrors, [field]: sentence(code, message, after), notBefore: now + after };
}

function sentence(code, message, after) {
  const wait = after > 0 ? ` Wait ${seconds(after)} s.` : '';
  if (code === 'rate_limited') return `Too many tries.${wait}`;
  if (code === 'unauthorized') return 'There is no such name with this password.';
  return `${message}${wait}`;
}

const seconds = (time) => Math.ceil(time / 1000);

/** How many seconds the server does not take the form yet. */
export function secondsLeft({ notBefore }, now) {
  return Math.max(0, seconds(notBefore - now));
}

/** When that number changes next, or `null`. */
export function nextSecond(account, now) {
  const left = secondsLeft(account, now);
  return left === 0 ? null : account.notBefore - 1000 * (left - 1);
}
// ANCHOR_END: refused

// ANCHOR: check
/** What is wrong with the form, or `null`. The server checks again: this only saves the way. */
export function formProblem(mode, { name, password }) {
  if (name === '') return { code: 'bad_name', message: 'Enter a name.' };
  const length = [...password].length;
  if (length === 0) return { code: 'bad_password', message: 'Enter a password.' };
  if (mode === 'sign in' || (length >= PASSWORD.least && length <= PASSWORD.most)) return null;
  return { code: 'bad_password', message: `That is ${length} characters. A password has ${PASSWORD.least} to ${PASSWORD.most}.` };
}
// ANCHOR_END: check
// ANCHOR_END: all
