/** The REST API, with the rights of whoever opened the page. Nothing is kept. */

/** An answer that says what is wrong; `status` is 0 when there was none. */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {string} code
   * @param {string} message
   * @param {{path: string, message: string}[]} [problems]
   */
  constructor(status, code, message, problems = []) {
    super(message);
    this.status = status;
    this.code = code;
    this.problems = problems;
  }
}

/** @typedef {Record<string, string | number | boolean | null | undefined>} Parameters */

/**
 * @param {string} path
 * @param {Parameters} parameters
 */
function address(path, parameters) {
  const url = new URL(path, document.baseURI);
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== null && value !== undefined && value !== "") url.searchParams.set(name, String(value));
  }
  return url;
}

/**
 * @param {URL} url
 * @param {RequestInit} options
 */
async function answer(url, options) {
  let response;
  try {
    response = await fetch(url, { ...options, cache: "no-store", credentials: "same-origin", redirect: "error" });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ApiError(0, "unreachable", "the server does not answer");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

/** @param {Response} response */
async function refusal(response) {
  try {
    const { error } = await response.json();
    return new ApiError(response.status, String(error.code), String(error.message), error.problems ?? []);
  } catch {
    return new ApiError(response.status, "error", `the server answered ${response.status}`);
  }
}

/**
 * Return the JSON at `path`.
 *
 * @param {string} path
 * @param {Parameters} [parameters]
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
export async function get(path, parameters = {}, signal) {
  return (await answer(address(path, parameters), { signal })).json();
}

/**
 * @param {string} path
 * @param {Parameters} parameters
 * @param {AbortSignal} [signal]
 */
export async function getText(path, parameters, signal) {
  return (await answer(address(path, parameters), { signal })).text();
}

/**
 * @param {string} path
 * @param {object} body
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
export async function post(path, body, signal) {
  const headers = { "content-type": "application/json" };
  return (await answer(address(path, {}), { method: "POST", headers, body: JSON.stringify(body), signal })).json();
}

/**
 * Yield each line of JSON at `path`, for as long as it goes on.
 *
 * @param {string} path
 * @param {Parameters} parameters
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<any>}
 */
export async function* lines(path, parameters, signal) {
  const response = await answer(address(path, parameters), { signal });
  if (response.body === null) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const whole = (rest + value).split("\n");
    rest = whole.pop() ?? "";
    for (const line of whole) yield JSON.parse(line);
  }
}
