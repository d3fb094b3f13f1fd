"use strict";
Object.defineProperty(exports, "__esModule", { value: true });
exports.VERSION = void 0;
/** The version of this package. */
exports.VERSION = "0.1.0";
