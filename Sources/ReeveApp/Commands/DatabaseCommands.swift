import Postgres

/// `reeve database …`
enum DatabaseCommands {
    static let all = [url]

    static let url = CommandSpec(
        noun: "database", verb: "url", summary: "print how to connect to the database, for psql",
        discussion: "Without a password, which belongs in .pgpass or the environment. Starts nothing: the embedded "
            + "PostgreSQL answers while 'reeve serve' or another command holds it."
    ) { invocation in
        let configuration = try invocation.configuration()
        let estate = Estate(configuration: configuration, logger: .silent)
        for one in try estate.selected(invocation.option("database")) {
            let settings: ConnectionSettings
            let isEmbedded: Bool
            switch one.source {
            case .connection(let given): (settings, isEmbedded) = (given, false)
            case .embedded:
                let options = EmbeddedCluster.Options(stateFolder: configuration.stateFolder)
                (settings, isEmbedded) = (EmbeddedCluster.settings(for: options), true)
            }
            let url = settings.withoutPassword.uri
            invocation.console.result(
                ["database": .string(one.name), "url": .string(url), "embedded": .bool(isEmbedded)], text: url)
        }
        return .done
    }
}
