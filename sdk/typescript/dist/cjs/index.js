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
exports.VERSION = exports.EventStream = exports.Snapshots = exports.Branches = exports.Pools = exports.Keys = exports.SSHKeys = exports.Images = exports.Instances = exports.Instance = exports.Executions = exports.RunningCommand = exports.ExecutionStream = exports.Client = void 0;
var client_js_1 = require("./client.js");
Object.defineProperty(exports, "Client", { enumerable: true, get: function () { return client_js_1.Client; } });
__exportStar(require("./errors.js"), exports);
var execution_js_1 = require("./execution.js");
Object.defineProperty(exports, "ExecutionStream", { enumerable: true, get: function () { return execution_js_1.ExecutionStream; } });
Object.defineProperty(exports, "RunningCommand", { enumerable: true, get: function () { return execution_js_1.RunningCommand; } });
var executions_js_1 = require("./executions.js");
Object.defineProperty(exports, "Executions", { enumerable: true, get: function () { return executions_js_1.Executions; } });
var instances_js_1 = require("./instances.js");
Object.defineProperty(exports, "Instance", { enumerable: true, get: function () { return instances_js_1.Instance; } });
Object.defineProperty(exports, "Instances", { enumerable: true, get: function () { return instances_js_1.Instances; } });
var images_js_1 = require("./images.js");
Object.defineProperty(exports, "Images", { enumerable: true, get: function () { return images_js_1.Images; } });
Object.defineProperty(exports, "SSHKeys", { enumerable: true, get: function () { return images_js_1.SSHKeys; } });
var keys_js_1 = require("./keys.js");
Object.defineProperty(exports, "Keys", { enumerable: true, get: function () { return keys_js_1.Keys; } });
var pools_js_1 = require("./pools.js");
Object.defineProperty(exports, "Pools", { enumerable: true, get: function () { return pools_js_1.Pools; } });
var snapshots_js_1 = require("./snapshots.js");
Object.defineProperty(exports, "Branches", { enumerable: true, get: function () { return snapshots_js_1.Branches; } });
Object.defineProperty(exports, "Snapshots", { enumerable: true, get: function () { return snapshots_js_1.Snapshots; } });
var streams_js_1 = require("./streams.js");
Object.defineProperty(exports, "EventStream", { enumerable: true, get: function () { return streams_js_1.EventStream; } });
var version_js_1 = require("./version.js");
Object.defineProperty(exports, "VERSION", { enumerable: true, get: function () { return version_js_1.VERSION; } });
