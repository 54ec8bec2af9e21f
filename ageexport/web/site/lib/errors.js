// @ts-check

/** What this library throws on purpose; the message is one line: what was wrong, where, and what to do about it. */
export class AgeError extends Error {
  name = "AgeError";
}
