// Clients made of matrix-js-sdk with its Rust crypto, as Element Web has it.
import { createClient } from "matrix-js-sdk";
import { CryptoEvent } from "matrix-js-sdk/lib/crypto-api";
import { logger } from "matrix-js-sdk/lib/logger";

logger.setLevel("error");

// What is under way, for whoever waits in vain, and when it began.
let step;
window.steps = [];
Object.defineProperty(window, "step", {
    get: () => step,
    set: (what) => {
        step = what;
        window.steps.push(`${Math.round(performance.now())} ms: ${what}`);
    },
});
window.step = "begin";

// until waits for something to be true; events make it look again, and so does time.
export function until(what, holds) {
    window.step = what;
    return new Promise((resolve, reject) => {
        const look = async () => {
            try {
                const found = await holds();
                if (found) {
                    resolve(found);
                } else {
                    setTimeout(look, 20);
                }
            } catch (error) {
                reject(error);
            }
        };
        look();
    });
}

let devices = 0;

// device is a user's client on a device, which syncs. Each has a name of its own for the server: a browser makes one of two requests for the same address
// wait for the other one, and opens six connections to one name. What options makes of the client
// is how it starts.
export async function device(server, user, password, recovery, options = () => ({})) {
    window.step = `logging in as ${user}`;
    const baseUrl = server.replace("127.0.0.1", `device${devices++}.localhost`);
    const login = await createClient({ baseUrl }).loginRequest({ type: "m.login.password", identifier: { type: "m.id.user", user }, password });
    const client = createClient({
        baseUrl,
        userId: login.user_id,
        deviceId: login.device_id,
        accessToken: login.access_token,
        cryptoCallbacks: { getSecretStorageKey: async ({ keys }) => [Object.keys(keys)[0], recovery.key] },
        verificationMethods: ["m.sas.v1"],
    });
    await client.initRustCrypto({ useIndexedDB: false });
    client.on(CryptoEvent.VerificationRequestReceived, (request) => {
        client.request = request;
    });
    await client.startClient({ initialSyncLimit: 50, ...options(client) });
    await until(`first sync of ${user}`, () => client.isInitialSyncComplete());
    return client;
}

export async function register(baseUrl, username, password) {
    window.step = `registering ${username}`;
    const client = createClient({ baseUrl });
    const auth = await client.registerRequest({ username, password }).then(
        () => {
            throw new Error("registering needed nothing");
        },
        (error) => ({ type: "m.login.dummy", session: error.data.session }),
    );
    await client.registerRequest({ username, password, auth, inhibit_login: true });
}

export function texts(client, room) {
    const found = client.getRoom(room)?.getLiveTimeline().getEvents() ?? [];
    return found.filter((event) => event.getType() === "m.room.message").map((event) => event.getContent().body);
}

export async function heard(client, room, body) {
    await until(`${client.getUserId()} on ${client.getDeviceId()} reads ${body}`, () => texts(client, room).includes(body));
}

export async function say(client, room, body, readers) {
    window.step = `saying ${body}`;
    await client.sendTextMessage(room, body);
    await Promise.all(readers.map((reader) => heard(reader, room, body)));
}

// run runs a test, with the address of the server that the page's address names.
export function run(scenario) {
    window.outcome = undefined;
    scenario(new URLSearchParams(location.search).get("server")).then(
        () => {
            window.outcome = "done";
        },
        (error) => {
            window.outcome = `while ${window.step}: ${error?.stack ?? error}`;
        },
    );
}
