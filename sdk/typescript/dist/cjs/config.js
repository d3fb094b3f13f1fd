"use strict";
Object.defineProperty(exports, "__esModule", { value: true });
exports.DEFAULT_URL = void 0;
exports.findUrl = findUrl;
exports.findKey = findKey;
const errors_js_1 = require("./errors.js");
const platform_js_1 = require("./platform.js");
/** Where a server listens unless configured otherwise. */
exports.DEFAULT_URL = "http://127.0.0.1:8080";
/** Address of the server, without a slash at the end. */
function findUrl(given) {
    const address = (given || (0, platform_js_1.environment)("FAAS_API_URL") || exports.DEFAULT_URL).replace(/\/+$/, "");
    let url;
    try {
        url = new URL(address);
    }
    catch (cause) {
        throw new errors_js_1.InvalidArgumentError(`${JSON.stringify(address)} is not an http or https URL`, { field: "url", cause });
    }
    if (url.protocol !== "http:" && url.protocol !== "https:") {
        throw new errors_js_1.InvalidArgumentError(`${JSON.stringify(address)} is not an http or https URL`, { field: "url" });
    }
    return address;
}
/** The key: given, FAAS_API_KEY, or the key file of the user who runs the server here. */
async function findKey(given, keyFile) {
    const key = given || (0, platform_js_1.environment)("FAAS_API_KEY");
    if (key)
        return key;
    if (!(0, platform_js_1.hasNodeModules)())
        return "";
    const named = keyFile || (0, platform_js_1.environment)("FAAS_API_KEY_FILE");
    try {
        const fs = await (0, platform_js_1.loadNode)("node:fs/promises");
        return (await fs.readFile(named ?? (await usualPlace()), "utf8")).trim();
    }
    catch (cause) {
        if (named) {
            throw new errors_js_1.FailedPreconditionError(`read key file ${named}: ${String(cause.message)}`, { cause });
        }
        return ""; // a server may need no key, and says so when it does
    }
}
async function usualPlace() {
    const path = await (0, platform_js_1.loadNode)("node:path");
    const os = await (0, platform_js_1.loadNode)("node:os");
    const directory = (0, platform_js_1.environment)("XDG_CONFIG_HOME") ?? "";
    return path.join(path.isAbsolute(directory) ? directory : path.join(os.homedir(), ".config"), "faas", "key");
}
