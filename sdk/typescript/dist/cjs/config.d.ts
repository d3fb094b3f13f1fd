/** Where a server listens unless configured otherwise. */
export declare const DEFAULT_URL = "http://127.0.0.1:8080";
/** Address of the server, without a slash at the end. */
export declare function findUrl(given?: string): string;
/** The key: given, FAAS_API_KEY, or the key file of the user who runs the server here. */
export declare function findKey(given?: string, keyFile?: string): Promise<string>;
