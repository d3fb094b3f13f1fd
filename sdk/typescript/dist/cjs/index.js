"use strict";
var __createBinding = (this && this.__createBinding) || (Object.create ? (function(o, m, k, k2) {
    if (k2 === undefined) k2 = k;
    var desc = Object.getOwnPropertyDescriptor(m, k);
    if (!desc || ("get" in desc ? !m.__esModule : desc.writable || desc.configurable)) {
      desc = { enumerable: true, get: function() { return m[k]; } };
    }
    Object.defineProperty(o, k2, desc);
}) : (function(o, m, k, k2) {
    if (k2 === undefined) k2 = k;
    o[k2] = m[k];
}));
var __exportStar = (this && this.__exportStar) || function(m, exports) {
    for (var p in m) if (p !== "default" && !Object.prototype.hasOwnProperty.call(exports, p)) __createBinding(exports, m, p);
};
Object.defineProperty(exports, "__esModule", { value: true });
exports.VERSION = exports.Executions = exports.EventStream = exports.Process = exports.ExecutionStream = exports.Client = void 0;
var client_js_1 = require("./client.js");
Object.defineProperty(exports, "Client", { enumerable: true, get: function () { return client_js_1.Client; } });
__exportStar(require("./errors.js"), exports);
var execution_js_1 = require("./execution.js");
Object.defineProperty(exports, "ExecutionStream", { enumerable: true, get: function () { return execution_js_1.ExecutionStream; } });
Object.defineProperty(exports, "Process", { enumerable: true, get: function () { return execution_js_1.Process; } });
var executions_js_1 = require("./executions.js");
Object.defineProperty(exports, "EventStream", { enumerable: true, get: function () { return executions_js_1.EventStream; } });
Object.defineProperty(exports, "Executions", { enumerable: true, get: function () { return executions_js_1.Executions; } });
__exportStar(require("./types.js"), exports);
var version_js_1 = require("./version.js");
Object.defineProperty(exports, "VERSION", { enumerable: true, get: function () { return version_js_1.VERSION; } });
