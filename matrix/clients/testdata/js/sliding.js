// Sliding sync as matrix-js-sdk has it, with lists as Element Web asks for them: one user has it, and others, who sync in the ordinary way, do what she sees.
import { SlidingSync } from "matrix-js-sdk/lib/sliding-sync";
import { device, heard, register, run, say, texts, until } from "./device.js";

const state = [
    ["m.room.create", ""],
    ["m.room.name", ""],
    ["m.room.encryption", ""],
    ["m.room.power_levels", ""],
    ["m.room.member", "$ME"],
    ["m.room.member", "$LAZY"],
    ["m.space.child", "*"],
];

const lists = () =>
    new Map(
        Object.entries({
            spaces: { ranges: [[0, 9]], timeline_limit: 0, required_state: state, filters: { room_types: ["m.space"] } },
            invites: { ranges: [[0, 9]], timeline_limit: 1, required_state: state, filters: { is_invite: true } },
            favourites: { ranges: [[0, 9]], timeline_limit: 1, required_state: state, filters: { tags: ["m.favourite"] } },
            direct: { ranges: [[0, 9]], timeline_limit: 1, required_state: state, filters: { is_dm: true, is_invite: false } },
            others: { ranges: [[0, 1]], timeline_limit: 1, required_state: state, filters: { is_dm: false, is_invite: false, not_room_types: ["m.space"] } },
        }),
    );

// once is true of texts that a client shows once each, in the order in which they were said.
const once = (client, room, bodies) => JSON.stringify(texts(client, room)) === JSON.stringify(bodies);

// talk has two clients say something to each other, and every device reads it.
async function talk(room, what, anne, bob, tablets) {
    await say(bob, room, `${what}: is anybody there?`, [anne, ...tablets]);
    await say(anne, room, `${what}: yes`, [bob, ...tablets]);
}

// joins is another device of a user, which those who write know before they do: what was said before is not for it.
async function joins(server, name, room, writers) {
    const made = await device(server, name, `pw-${name}`, {});
    for (const writer of writers) {
        await until(`${writer.getUserId()} knows it`, async () => (await writer.getCrypto().getUserDeviceInfo([made.getUserId()])).get(made.getUserId())?.has(made.getDeviceId()));
    }
    await until("it has the room", () => made.getRoom(room)?.getMyMembership() === "join");
    return made;
}

async function scenario(server) {
    await register(server, "anne", "pw-anne");
    await register(server, "bob", "pw-bob");
    const bob = await device(server, "bob", "pw-bob", {});
    const user = bob.getUserId().replace("bob", "anne");
    const rooms = [];
    for (let i = 0; i < 6; i++) {
        const { room_id: room } = await bob.createRoom({ preset: "public_chat", name: `Room ${i}` });
        rooms.push(room);
    }
    const { room_id: space } = await bob.createRoom({ preset: "public_chat", name: "Space", creation_content: { type: "m.space" } });
    await bob.sendStateEvent(space, "m.space.child", { via: ["orrery.test"] }, rooms[0]);
    for (let i = 0; i < 5; i++) {
        await bob.sendTextMessage(rooms[2], `old ${i}`);
    }

    let sliding;
    const asked = [];
    const anne = await device(server, "anne", "pw-anne", {}, (client) => {
        sliding = new SlidingSync(client.baseUrl, lists(), { timeline_limit: 20, required_state: [["*", "*"]] }, client, 30000);
        const ask = client.slidingSync.bind(client);
        client.slidingSync = (body, ...rest) => {
            asked.push(body.pos);
            return ask(body, ...rest);
        };
        return { slidingSync: sliding };
    });
    const counts = (name) => sliding.getListData(name).joinedCount;
    for (const room of [...rooms, space]) {
        await anne.joinRoom(room);
    }
    await until("the lists count", () => counts("others") === 6 && counts("spaces") === 1 && counts("invites") === 0);
    await until("the space", () => anne.getRoom(space)?.isSpaceRoom() && anne.getRoom(space).currentState.getStateEvents("m.space.child", rooms[0]));

    // What is outside the window is not told, whatever happens to it; a wider one has all.
    await until("the rooms of the window", () => anne.getRoom(rooms[5])?.name === "Room 5");
    sliding.setListRanges("others", [[0, 99]]);
    await until("all rooms", () => rooms.every((room, i) => anne.getRoom(room)?.name === `Room ${i}`));

    // A room that is opened shows what was said before.
    sliding.modifyRoomSubscriptions(new Set([rooms[2]]));
    await until("what was said before", () => once(anne, rooms[2], [0, 1, 2, 3, 4].map((i) => `old ${i}`)));
    await say(bob, rooms[2], "new", [anne]);
    await until("what was said before, and now", () => once(anne, rooms[2], [0, 1, 2, 3, 4].map((i) => `old ${i}`).concat("new")));

    // Lists by tags, by what account data says, and of invitations.
    await anne.setRoomTag(rooms[1], "m.favourite", { order: 0.5 });
    await until("a favourite", () => counts("favourites") === 1 && anne.getRoom(rooms[1]).tags["m.favourite"]);
    await anne.setAccountData("org.example.colour", { is: "red" });
    await until("account data", () => anne.getAccountData("org.example.colour")?.getContent().is === "red");
    const { room_id: secret } = await bob.createRoom({
        preset: "trusted_private_chat",
        is_direct: true,
        invite: [user],
        initial_state: [{ type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } }],
    });
    await until("an invitation", () => counts("invites") === 1 && anne.getRoom(secret)?.getMyMembership() === "invite");
    await anne.joinRoom(secret);
    await anne.setAccountData("m.direct", { [bob.getUserId()]: [secret] });
    await until("a direct room", () => counts("invites") === 0 && counts("direct") === 1 && anne.getRoom(secret).getMyMembership() === "join");
    await until("bob sees anne", () => bob.getRoom(secret)?.getJoinedMemberCount() === 2);

    // Messages to the device bring keys; lists of devices bring new ones.
    sliding.modifyRoomSubscriptions(new Set([secret]));
    await until("the room is encrypted", () => anne.getRoom(secret).hasEncryptionStateEvent());
    await talk(secret, "one device each", anne, bob, []);
    const tablet = await joins(server, "bob", secret, [anne, bob]);
    await talk(secret, "a tablet", anne, bob, [tablet]);

    // Who types, who has read what, what is unread.
    sliding.modifyRoomSubscriptions(new Set([rooms[3]]));
    await until("bob is known", () => anne.getRoom(rooms[3]).getMember(bob.getUserId()));
    await bob.sendTyping(rooms[3], true, 60000);
    await until("bob types", () => anne.getRoom(rooms[3]).getMember(bob.getUserId()).typing);
    await bob.sendTyping(rooms[3], false, 60000);
    await until("bob types no more", () => !anne.getRoom(rooms[3]).getMember(bob.getUserId()).typing);
    const { event_id: said } = await bob.sendTextMessage(rooms[3], "count me");
    await until("one is unread", () => anne.getRoom(rooms[3]).getUnreadNotificationCount() === 1);
    const event = () => anne.getRoom(rooms[3]).findEventById(said);
    await anne.sendReadReceipt(event());
    await until("none is unread", () => anne.getRoom(rooms[3]).getUnreadNotificationCount() === 0);
    await until("bob sees that anne has read", () => bob.getRoom(rooms[3])?.getUsersReadUpTo(bob.getRoom(rooms[3]).findEventById(said)).includes(user));
    const { event_id: answer } = await anne.sendTextMessage(rooms[3], "done");
    await until("the answer", () => bob.getRoom(rooms[3]).findEventById(answer));
    await bob.sendReadReceipt(bob.getRoom(rooms[3]).findEventById(answer));
    await until("anne sees that bob has read", () => anne.getRoom(rooms[3]).getUsersReadUpTo(anne.getRoom(rooms[3]).findEventById(answer)).includes(bob.getUserId()));

    // The server is started again, and knows no connections any more: the client begins anew, and nothing is lost or told twice.
    window.step = "the server starts again";
    const before = asked.length;
    const restarted = await fetch("/restart", { method: "POST" });
    if (!restarted.ok) {
        throw new Error(await restarted.text());
    }
    await until("a new connection", () => asked.slice(before).includes(undefined));
    await talk(secret, "after a restart", anne, bob, [tablet]);
    // It forgets the client's connection for others of the same device.
    const again = asked.length;
    await until("another new connection", async () => {
        for (let i = 0; i < 8; i++) {
            await anne.http.authedRequest("POST", "/sync", {}, { conn_id: `other ${i}` }, { prefix: "/_matrix/client/unstable/org.matrix.simplified_msc3575" });
        }
        await say(bob, rooms[4], `wake up ${asked.length}`, [anne]);
        return asked.slice(again).includes(undefined);
    });
    const phone = await joins(server, "bob", secret, [anne, bob]);
    await talk(secret, "a phone", anne, bob, [tablet, phone]);
    const expected = ["one device each", "a tablet", "after a restart", "a phone"].flatMap((what) => [`${what}: is anybody there?`, `${what}: yes`]);
    await until("everything, once", () => once(anne, secret, expected) && once(bob, secret, expected));
    [anne, bob, tablet, phone].forEach((client) => client.stopClient());
    window.step = `${asked.length} requests`;
}

run(scenario);
