%% Runs in a node of its own beside ejabberd: passes packets between Orrery (Port) and a process on ejabberd's node. The
%% first packet was {this text, arguments}.
{Name, Kind, Node, Cookie, Script} = Arguments,
Reply = fun(T) -> port_command(Port, term_to_binary(T, [{minor_version, 2}])) end,
{ok, _} = net_kernel:start([Name, Kind]),
true = erlang:set_cookie(Node, Cookie),
case net_kernel:connect_node(Node) of
    true -> ok;
    _ ->
        Reply({error, refused}),
        receive {Port, eof} -> halt(0) end
end,
{ok, Tokens, _} = erl_scan:string(Script),
{ok, Expressions} = erl_parse:parse_exprs(Tokens),
Server = spawn(Node, erl_eval, exprs, [Expressions, [{'Owner', self()}]]),
monitor(process, Server),
Pass = fun Pass() ->
    receive
        {Port, {data, B}} -> Server ! binary_to_term(B);
        {Port, eof} -> halt(0);
        {reply, T} -> Reply(T);
        {'DOWN', _, process, Server, _} -> Reply({error, gone}), receive {Port, eof} -> halt(0) end
    end,
    Pass()
end,
Pass().
