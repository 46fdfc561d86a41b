package server_test

// What the app's library (ruma, oauth2) reads of answers, by where they are asked for.
var (
	wellKnownShape = shape{"m.homeserver": "object", "m.homeserver base_url": "url", "m.identity_server": "?object", "m.identity_server base_url": "string"}
	versionsShape  = shape{"versions": "list", "versions *": "string", "unstable_features": "~object", "unstable_features *": "bool"}
	metadataShape  = shape{
		"issuer": "url", "authorization_endpoint": "url", "token_endpoint": "url", "revocation_endpoint": "url", "registration_endpoint": "url",
		"device_authorization_endpoint": "?url", "account_management_uri": "?url", "account_management_actions_supported": "~list",
		"account_management_actions_supported *": "string", "prompt_values_supported": "~list", "prompt_values_supported *": "string",
		"response_types_supported": "list", "response_modes_supported": "?list", "grant_types_supported": "list", "code_challenge_methods_supported": "list",
	}
	flowsShape   = shape{"flows": "list", "flows * type": "string", "flows * get_login_token": "~bool", "flows * identity_providers": "~list"}
	clientShape  = shape{"client_id": "string", "client_id_issued_at": "?uint"}
	tokenShape   = shape{"access_token": "string", "token_type": "string", "expires_in": "?uint", "refresh_token": "?string", "scope": "?string"}
	linkShape    = shape{"device_code": "string", "user_code": "string", "verification_uri": "url", "verification_uri_complete": "?url", "expires_in": "uint", "interval": "~uint"}
	whoShape     = shape{"user_id": "user", "device_id": "?string", "is_guest": "~bool"}
	slidingShape = shape{
		"pos": "string", "lists": "~object", "lists * count": "uint", "rooms": "~object",
		"rooms * name": "?string", "rooms * avatar": "?mxc", "rooms * initial": "?bool", "rooms * is_dm": "?bool", "rooms * invite_state": "?list", "rooms * invite_state * type": "string",
		"rooms * notification_count": "?uint", "rooms * highlight_count": "?uint", "rooms * timeline": "~list", "rooms * timeline * event_id": "event", "rooms * timeline * sender": "user",
		"rooms * timeline * type": "string", "rooms * timeline * origin_server_ts": "uint", "rooms * timeline * content": "object", "rooms * required_state": "~list",
		"rooms * required_state * state_key": "string", "rooms * required_state * event_id": "event", "rooms * required_state * content": "object",
		"rooms * prev_batch": "?string", "rooms * limited": "~bool", "rooms * joined_count": "?uint", "rooms * invited_count": "?uint", "rooms * num_live": "?uint",
		"rooms * bump_stamp": "?uint", "rooms * heroes": "?list", "rooms * heroes * user_id": "user", "rooms * heroes * displayname": "?string", "rooms * heroes * avatar_url": "?mxc",
		"extensions": "~object", "extensions to_device": "?object", "extensions to_device next_batch": "string", "extensions to_device events": "~list",
		"extensions to_device events * sender": "user", "extensions to_device events * type": "string", "extensions to_device events * content": "object",
		"extensions e2ee": "~object", "extensions e2ee device_lists": "~object", "extensions e2ee device_lists changed": "~list", "extensions e2ee device_lists changed *": "user",
		"extensions e2ee device_lists left": "~list", "extensions e2ee device_one_time_keys_count": "~object", "extensions e2ee device_one_time_keys_count *": "uint",
		"extensions e2ee device_unused_fallback_key_types": "?list", "extensions account_data": "~object", "extensions account_data global": "~list",
		"extensions account_data global * type": "string", "extensions account_data global * content": "object", "extensions account_data rooms": "~object",
		"extensions account_data rooms *": "list", "extensions receipts": "~object", "extensions receipts rooms": "~object", "extensions receipts rooms * type": "string",
		"extensions receipts rooms * content": "object", "extensions typing": "~object", "extensions typing rooms": "~object", "extensions typing rooms * content user_ids": "list",
	}
	uiaShape     = shape{"flows": "list", "flows * stages": "~list", "completed": "~list", "params m.oauth url": "url", "session": "?string"}
	summaryShape = shape{
		"room_id": "room", "canonical_alias": "?alias", "name": "?string", "topic": "?string", "avatar_url": "?mxc", "room_type": "?string", "num_joined_members": "uint",
		"join_rule": "?string", "world_readable": "bool", "guest_can_join": "bool", "encryption": "?string", "room_version": "?string", "membership": "?string", "allowed_room_ids": "~list",
	}
	publicShape = shape{
		"chunk": "list", "chunk * room_id": "room", "chunk * num_joined_members": "uint", "chunk * world_readable": "bool", "chunk * guest_can_join": "bool", "chunk * name": "?string",
		"chunk * canonical_alias": "?alias", "chunk * topic": "?string", "chunk * avatar_url": "?mxc", "chunk * join_rule": "~string", "chunk * room_type": "?string",
		"next_batch": "?string", "prev_batch": "?string", "total_room_count_estimate": "?uint",
	}
	rulesShape = shape{
		"global": "object", "global content": "~list", "global override": "~list", "global room": "~list", "global sender": "~list", "global underride": "~list",
		"global * * actions": "list", "global * * default": "bool", "global * * enabled": "bool", "global * * rule_id": "string", "global * * conditions": "?list", "global * * pattern": "?string",
		"global * * conditions * kind": "string",
	}
	capabilityShape = shape{
		"capabilities": "object", "capabilities m.change_password": "~object", "capabilities m.change_password enabled": "bool", "capabilities m.room_versions default": "string",
		"capabilities m.room_versions available": "object", "capabilities m.room_versions available *": "string", "capabilities m.set_displayname enabled": "bool",
		"capabilities m.set_avatar_url enabled": "bool", "capabilities m.3pid_changes enabled": "bool", "capabilities m.get_login_token enabled": "bool",
		"capabilities m.profile_fields": "?object", "capabilities m.profile_fields enabled": "bool", "capabilities m.forget_forced_upon_leave enabled": "bool",
	}
	eventsShape  = shape{"chunk": "~list", "chunk * event_id": "event", "chunk * sender": "user", "chunk * origin_server_ts": "uint", "chunk * content": "object", "start": "?string", "end": "?string", "state": "~list"}
	contextShape = shape{"start": "?string", "end": "?string", "events_before": "~list", "event": "?object", "events_after": "~list", "state": "~list"}
	chunkShape   = shape{"chunk": "list", "chunk * event_id": "event", "next_batch": "?string", "prev_batch": "?string", "recursion_depth": "?uint"}
	backupShape  = shape{"algorithm": "string", "auth_data": "object", "count": "uint", "etag": "string", "version": "string"}
	deviceShape  = shape{"device_id": "string", "display_name": "?string", "last_seen_ip": "?string", "last_seen_ts": "?uint"}
	queryShape   = shape{
		"failures": "~object", "device_keys": "~object", "device_keys *": "object", "device_keys * * user_id": "user", "device_keys * * device_id": "string", "device_keys * * algorithms": "list",
		"device_keys * * keys": "object", "device_keys * * signatures": "object", "master_keys": "~object", "self_signing_keys": "~object", "user_signing_keys": "~object",
		"master_keys * user_id": "user", "master_keys * usage": "list", "master_keys * keys": "object",
	}
)
