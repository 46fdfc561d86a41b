%% Runs on ejabberd's node, interpreted, and is gone with its owner: carries out what Orrery asks for, within a transaction
%% between begin and commit. All that loops over records is compiled code of Mnesia's and of the standard library's.
group_leader(whereis(user), self()),
Watch = monitor(process, Owner),
Say = fun(T) -> Owner ! {reply, T} end,
%% Only names of errors are passed on: the rest may hold secrets.
Reason = fun Reason({aborted, R}) -> Reason(R);
             Reason(R) when is_atom(R) -> R;
             Reason(R) when is_tuple(R), tuple_size(R) > 0 -> Reason(element(1, R));
             Reason(_) -> unknown
         end,
Try = fun(F) ->
    try {ok, F()} catch _:R -> {error, Reason(R)} end
end,
Stream = fun Stream('$end_of_table') -> {ok, 'end'};
             Stream({[], More}) -> Stream(mnesia:select(More));
             Stream({Records, More}) ->
                 Say({records, Records}),
                 receive
                     more -> Stream(mnesia:select(More));
                     enough -> {ok, 'end'};
                     {'DOWN', Watch, _, _, _} -> exit(normal)
                 end
         end,
Do = fun({call, M, F, A}) -> Try(fun() -> apply(M, F, A) end);
        ({each, Calls}) -> %% on all nodes of the cluster, all of them, also if the owner is gone meanwhile
            Try(fun() ->
                lists:foreach(fun({M, F, A}) ->
                    {All, []} = rpc:multicall(ejabberd_cluster:get_nodes(), M, F, A),
                    [] = [R || {badrpc, R} <- All]
                end, Calls),
                done
            end);
        ({modules, Host}) ->
            Try(fun() -> [{M, maps:with([host, hosts, db_type], O)} || {M, O, _} <- ejabberd_option:modules(Host), is_map(O)] end);
        (tables) ->
            Try(fun() ->
                [{T, mnesia:table_info(T, storage_type), mnesia:table_info(T, type), mnesia:table_info(T, attributes),
                  mnesia:table_info(T, size), mnesia:table_info(T, memory), erlang:system_info(wordsize)}
                 || T <- mnesia:system_info(tables), mnesia:table_info(T, storage_type) =/= unknown]
            end);
        ({select, Table, Spec}) ->
            try Stream(mnesia:select(Table, Spec, 100, read)) catch error:R -> {error, Reason(R)}; exit:R -> {error, Reason(R)} end;
        ({read, Table, Keys}) -> Try(fun() -> lists:append([mnesia:read(Table, K) || K <- Keys]) end);
        ({index, Table, Position, Keys}) -> Try(fun() -> lists:append([mnesia:index_read(Table, K, Position) || K <- Keys]) end);
        ({write, Records}) -> Try(fun() -> lists:foreach(fun mnesia:write/1, Records), done end);
        ({delete, Oids}) -> Try(fun() -> lists:foreach(fun mnesia:delete/1, Oids), done end);
        ({delete_object, Records}) -> Try(fun() -> lists:foreach(fun mnesia:delete_object/1, Records), done end)
     end,
Loop = fun Loop(Inside) ->
    receive
        {'DOWN', Watch, _, _, _} -> exit(normal);
        commit when Inside -> done;
        {'begin', Mode, Tables} when not Inside ->
            Result = mnesia:transaction(fun() ->
                lists:foreach(fun(T) -> mnesia:lock({table, T}, Mode) end, Tables),
                Say({ok, locked}),
                Loop(true)
            end),
            case Result of
                {atomic, done} -> Say({ok, done});
                {aborted, R} -> Say({error, Reason(R)})
            end,
            Loop(false);
        Request ->
            Say(Do(Request)),
            Loop(Inside)
    end
end,
Loop(false).
