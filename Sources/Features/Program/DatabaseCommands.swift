import Kernel
import Postgres
import Reporting

/// The commands `reeve database …`.
enum DatabaseCommands {
    static let all = [url]

    static let url = CommandSpec(
        noun: "database", verb: "url", summary: "print the connection URL of the database, for example for psql",
        discussion:
            "The URL has no password; put the password into .pgpass or the environment. The command does not start the "
            + "embedded PostgreSQL, which runs only while 'reeve serve' or another command uses it."
    ) { invocation in
        let configuration = try invocation.configuration()
        let estate = Estate(configuration: configuration, features: invocation.features, logger: .silent)
        var urls: [(name: String, url: String, isEmbedded: Bool)] = []
        for one in try estate.selected(invocation.option("database")) {
            switch one.source {
            case .connection(let given): urls.append((one.name, given.withoutPassword.uri, false))
            case .embedded:
                let options = EmbeddedCluster.Options(stateFolder: configuration.stateFolder)
                urls.append((one.name, EmbeddedCluster.settings(for: options).uri, true))
            }
        }
        invocation.console.result(
            [
                "databases": .array(
                    urls.map {
                        ["database": .string($0.name), "url": .string($0.url), "embedded": .bool($0.isEmbedded)]
                    })
            ], text: urls.map(\.url).joined(separator: "\n"), isExact: true)
        return .done
    }
}
