// Photos that were chosen as a query. They stay in this browser, so that a reload finds them.

const DATABASE = "veduta";
const STORE = "queries";
const KEPT_MS = 24 * 60 * 60 * 1000;
const KEY_BYTES = 8;

const inMemory = new Map(); // For browsers that keep nothing, such as some private windows.

const answerOf = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

async function inStore(mode, work) {
  const opening = indexedDB.open(DATABASE, 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore(STORE);
  const database = await answerOf(opening);
  try {
    return await work(database.transaction(STORE, mode).objectStore(STORE));
  } finally {
    database.close();
  }
}

/** Return those of some chosen files that may be photos. */
export const photosAmong = (files) => [...files].filter((file) => !file.type || file.type.startsWith("image/"));

/** Read a chosen file. It may change or go away later, and its bytes would be gone with it. */
export async function bytesOf(file) {
  return { name: file.name, data: new Blob([await file.arrayBuffer()], { type: file.type }) };
}

/** Keep photos, and return the key by which they are found again. `files`: of {name, data}. */
export async function keep(files) {
  const bytes = crypto.getRandomValues(new Uint8Array(KEY_BYTES));
  const key = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  inMemory.set(key, files);
  try {
    await inStore("readwrite", (store) => answerOf(store.put({ kept: Date.now(), files }, key)));
  } catch (error) {
    console.info("This browser keeps no photos across a reload.", error);
  }
  return key;
}

/** Return the photos of a key, or null if this browser has them no more. */
export async function find(key) {
  if (inMemory.has(key)) return inMemory.get(key);
  try {
    const found = await inStore("readonly", (store) => answerOf(store.get(key)));
    return found?.files ?? null;
  } catch {
    return null;
  }
}

/** Forget the photos of a key, and those that are older than a day. */
export async function forget(key) {
  inMemory.delete(key);
  try {
    await inStore("readwrite", async (store) => {
      if (key) store.delete(key);
      for (const other of await answerOf(store.getAllKeys())) {
        const { kept } = await answerOf(store.get(other));
        if (Date.now() - kept > KEPT_MS) store.delete(other);
      }
    });
  } catch {
    // Nothing is kept, so there is nothing to forget.
  }
}

/** Forget all photos, such as when someone signs out. */
export function forgetAll() {
  inMemory.clear();
  indexedDB.deleteDatabase(DATABASE);
}
