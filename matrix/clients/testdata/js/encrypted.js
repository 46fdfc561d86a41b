// Two users with two devices each, in an encrypted room: matrix-js-sdk with its Rust crypto, as Element Web has it.
import { createClient } from "matrix-js-sdk";
import { CryptoEvent, VerifierEvent, VerificationPhase } from "matrix-js-sdk/lib/crypto-api";
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
function until(what, holds) {
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
// wait for the other one, and opens six connections to one name.
async function device(server, user, password, recovery) {
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
    await client.startClient({ initialSyncLimit: 50 });
    await until(`first sync of ${user}`, () => client.isInitialSyncComplete());
    return client;
}

async function register(baseUrl, username, password) {
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

// identity makes a user's cross-signing keys, secret storage and key backup.
async function identity(client, password, recovery) {
    window.step = `identity of ${client.getUserId()}`;
    const crypto = client.getCrypto();
    await crypto.bootstrapCrossSigning({
        authUploadDeviceSigningKeys: (upload) => upload({ type: "m.login.password", identifier: { type: "m.id.user", user: client.getUserId() }, password }),
    });
    const made = await crypto.createRecoveryKeyFromPassphrase();
    recovery.key = made.privateKey;
    await crypto.bootstrapSecretStorage({ createSecretStorageKey: async () => made, setupNewSecretStorage: true, setupNewKeyBackup: true });
    await until(`backup of ${client.getUserId()}`, () => crypto.getActiveSessionBackupVersion());
}

// verify has two clients compare emoji, and both say that they match.
async function verify(what, request, other) {
    const received = await until(`${what}: request`, () => other.request);
    other.request = undefined;
    await received.accept();
    await until(`${what}: ready`, () => request.phase === VerificationPhase.Ready);
    const first = await request.startVerification("m.sas.v1");
    const second = await until(`${what}: started`, () => received.verifier);
    const shown = [];
    const confirm = (verifier) => {
        verifier.on(VerifierEvent.ShowSas, (sas) => {
            shown.push([sas, JSON.stringify(sas.sas.emoji)]);
            if (shown.length === 2) {
                if (shown[0][1] !== shown[1][1]) {
                    throw new Error(`${what}: the emoji differ`);
                }
                shown.forEach(([one]) => one.confirm());
            }
        });
        return verifier.verify();
    };
    window.step = `${what}: emoji`;
    await Promise.all([confirm(first), confirm(second)]);
    await until(`${what}: done`, () => request.phase === VerificationPhase.Done && received.phase === VerificationPhase.Done);
}

function texts(client, room) {
    const found = client.getRoom(room)?.getLiveTimeline().getEvents() ?? [];
    return found.filter((event) => event.getType() === "m.room.message").map((event) => event.getContent().body);
}

async function heard(client, room, body) {
    await until(`${client.getUserId()} on ${client.getDeviceId()} reads ${body}`, () => texts(client, room).includes(body));
}

async function say(client, room, body, readers) {
    window.step = `saying ${body}`;
    await client.sendTextMessage(room, body);
    await Promise.all(readers.map((reader) => heard(reader, room, body)));
}

async function scenario(baseUrl) {
    await register(baseUrl, "anne", "pw-anne");
    await register(baseUrl, "bob", "pw-bob");
    const keys = { anne: {}, bob: {} };
    const anne = await device(baseUrl, "anne", "pw-anne", keys.anne);
    const bob = await device(baseUrl, "bob", "pw-bob", keys.bob);
    await identity(anne, "pw-anne", keys.anne);
    await identity(bob, "pw-bob", keys.bob);

    window.step = "the room";
    const { room_id: room } = await anne.createRoom({
        preset: "trusted_private_chat",
        is_direct: true,
        invite: [bob.getUserId()],
        initial_state: [{ type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } }],
    });
    await until("the invitation", () => bob.getRoom(room)?.getMyMembership() === "invite");
    await bob.joinRoom(room);
    await until("both in the room", () => anne.getRoom(room)?.getJoinedMemberCount() === 2 && bob.getRoom(room)?.getJoinedMemberCount() === 2);
    await say(anne, room, "hello bob", [bob]);
    await say(bob, room, "hello anne", [anne]);

    // Second devices, which their users verify from the first ones.
    const tablets = [];
    for (const [client, name] of [[anne, "anne"], [bob, "bob"]]) {
        const tablet = await device(baseUrl, name, `pw-${name}`, {});
        for (const [one, other] of [[tablet, client], [client, tablet]]) { // requests of devices that are not known are dropped
            await until(`${name}'s devices`, async () => (await one.getCrypto().getUserDeviceInfo([one.getUserId()])).get(one.getUserId())?.has(other.getDeviceId()));
        }
        const request = await tablet.getCrypto().requestOwnUserVerification();
        await verify(`${name}'s devices`, request, client);
        await until(`${name}'s tablet is signed`, async () => {
            const status = await client.getCrypto().getDeviceVerificationStatus(client.getUserId(), tablet.getDeviceId());
            return status?.crossSigningVerified;
        });
        await until(`${name}'s tablet has the keys of the identity`, async () => (await tablet.getCrypto().getCrossSigningStatus()).privateKeysCachedLocally.masterKey);
        tablets.push(tablet);
    }
    const [anneTablet, bobTablet] = tablets;

    // The users verify each other, and their other devices know.
    const request = await anne.getCrypto().requestVerificationDM(bob.getUserId(), room);
    await verify("anne and bob", request, bob);
    await until("anne's tablet trusts bob", async () => (await anneTablet.getCrypto().getUserVerificationStatus(bob.getUserId())).isCrossSigningVerified());
    await until("bob's tablet trusts anne", async () => (await bobTablet.getCrypto().getUserVerificationStatus(anne.getUserId())).isCrossSigningVerified());
    await until("anne trusts bob's tablet", async () => {
        const status = await anne.getCrypto().getDeviceVerificationStatus(bob.getUserId(), bobTablet.getDeviceId());
        return status?.crossSigningVerified;
    });
    await say(anne, room, "to all", [anneTablet, bob, bobTablet]);
    await say(bobTablet, room, "from a tablet", [anne, anneTablet, bob]);

    // A new device reads all of it by the recovery key.
    await until("everything is backed up", async () => {
        const info = await anne.http.authedRequest("GET", "/room_keys/version", undefined, undefined, { prefix: "/_matrix/client/v3" }); // not as it was remembered
        return info.count >= 3;
    });
    const phone = await device(baseUrl, "anne", "pw-anne", keys.anne);
    await until("the new phone knows anne's identity", () => phone.getCrypto().userHasCrossSigningKeys(anne.getUserId(), true));
    window.step = "restoring";
    await phone.getCrypto().bootstrapCrossSigning({});
    await phone.getCrypto().loadSessionBackupPrivateKeyFromSecretStorage();
    await phone.getCrypto().restoreKeyBackup();
    for (const body of ["hello bob", "hello anne", "to all", "from a tablet"]) {
        await heard(phone, room, body);
    }
    await until("the new phone is signed", async () => {
        const status = await phone.getCrypto().getDeviceVerificationStatus(anne.getUserId(), phone.getDeviceId());
        return status?.crossSigningVerified;
    });
    [anne, bob, anneTablet, bobTablet, phone].forEach((client) => client.stopClient());
}

window.outcome = undefined;
scenario(new URLSearchParams(location.search).get("server")).then(
    () => {
        window.outcome = "done";
    },
    (error) => {
        window.outcome = `while ${window.step}: ${error?.stack ?? error}`;
    },
);
