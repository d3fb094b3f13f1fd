"use strict";
Object.defineProperty(exports, "__esModule", { value: true });
exports.Emitter = void 0;
/** Listeners by event. */
class Emitter {
    #listeners = {};
    /** Adds a listener; the function that it returns removes it. */
    on(event, listener) {
        const all = this.#listeners[event] ?? new Set();
        this.#listeners[event] = all;
        all.add(listener);
        return () => all.delete(listener);
    }
    emit(event, value) {
        for (const listener of this.#listeners[event] ?? [])
            listener(value);
    }
}
exports.Emitter = Emitter;
