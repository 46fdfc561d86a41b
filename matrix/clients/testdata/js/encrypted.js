// Two users with two devices each, in an encrypted room: matrix-js-sdk with its Rust crypto, as Element Web has it.
import { VerifierEvent, VerificationPhase } from "matrix-js-sdk/lib/crypto-api";
import { device, heard, register, run, say, until } from "./device.js";

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

run(scenario);
