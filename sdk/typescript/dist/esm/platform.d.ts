/** Whether Node's modules are there: Node itself, Bun and Deno. */
export declare function hasNodeModules(): boolean;
/** Whether this is Node itself, whose modules are used for WebSockets with headers. */
export declare function isNode(): boolean;
/** An environment variable; undefined where there are none, or may not be read. */
export declare function environment(name: string): string | undefined;
/** Loads a module of Node in a way that bundlers for browsers leave alone. */
export declare function loadNode<T>(name: string): Promise<T>;
