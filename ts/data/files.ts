// Files and installed packages, where the platform has them. Node's modules are asked for at run time, so that no import
// stands in the bundle: browsers load it as it is.

interface FileSystem {
  readFile(path: string): Promise<Uint8Array>;
  readdir(path: string): Promise<string[]>;
}
interface ModuleLoader {
  createRequire(from: string): { resolve(specifier: string): string };
}
interface Platform {
  getBuiltinModule?(name: 'node:fs/promises'): FileSystem;
  getBuiltinModule?(name: 'node:module'): ModuleLoader;
  cwd(): string;
}

function platform(caller: string): Required<Platform> {
  const { process } = globalThis as { readonly process?: Platform };
  if (process?.getBuiltinModule === undefined) {
    const hint = 'fetch the files and give their bytes to imagesFromIdx';
    throw new Error(`${caller}: this platform has no file system; ${hint}`);
  }
  return process as Required<Platform>;
}

/** A folder as a data set reader sees it. */
export interface Folder {
  readonly path: string;
  readonly names: ReadonlySet<string>;
  read(name: string): Promise<Uint8Array>;
}

/**
 * Lists a folder.
 *
 * @throws {Error} naming `caller` and the path, if it cannot be read.
 */
export async function openFolder(path: string, caller: string): Promise<Folder> {
  const fs = platform(caller).getBuiltinModule('node:fs/promises');
  const names = await fs.readdir(path).catch((cause: Error) => {
    throw new Error(`${caller}: cannot read the folder ${path}: ${cause.message}`, { cause });
  });
  return { path, names: new Set(names), read: (name) => fs.readFile(`${path}/${name}`) };
}

/**
 * The folder of an installed package, or null. Looks from this file, from the working directory and from the folders
 * `places` below it.
 */
export function findPackage(name: string, places: readonly string[], caller: string): string | null {
  const { getBuiltinModule, cwd } = platform(caller);
  const { createRequire } = getBuiltinModule('node:module');
  const here = cwd();
  for (const from of [import.meta.url, `${here}/_`, ...places.map((place) => `${here}/${place}/_`)]) {
    try {
      return createRequire(from)
        .resolve(`${name}/package.json`)
        .replace(/[\\/]package\.json$/, '');
    } catch {
      // Not installed there; the next place may have it.
    }
  }
  return null;
}
