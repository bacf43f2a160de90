import Foundation
import Postgres

/// `reeve config …`
enum ConfigCommands {
    static let all = [check, show, reference]

    static let check = CommandSpec(
        noun: "config", verb: "check", summary: "check the configuration, and every system that it names",
        discussion: "Reads the file and the environment as every command does, connects to nothing. Exit 2 on an error."
    ) { invocation in
        let configuration = try invocation.configuration()
        if let (name, meant) = configuration.store.unknownVariables.min(by: { $0.key < $1.key }) {
            throw ConfigurationError(
                "environment \(name)", nil, "it is not the name of a key",
                hint: meant.map { "did you mean \($0)" } ?? "see 'reeve config reference'")
        }
        let catalog = SystemCatalog(configuration: configuration)
        for database in configuration.databases {
            _ = try catalog.systems(
                database.systems ?? [], origin: database.systemsOrigin, options: database.options,
                withRequirements: true)
        }
        _ = try TaskDefaults.definitions(configuration)
        let file = configuration.file
        invocation.console.result(
            [
                "valid": true, "file": .string(file),
                "databases": .array(configuration.databases.map { .string($0.name) }),
            ],
            text: "\(file ?? "no file; environment and defaults"): valid, \(configuration.databases.count) "
                + "database\(configuration.databases.count == 1 ? "" : "s")")
        return .done
    }

    static let show = CommandSpec(
        noun: "config", verb: "show", summary: "show every setting with where it comes from",
        discussion: "Passwords are never shown."
    ) { invocation in
        let configuration = try invocation.configuration()
        let store = configuration.store
        let fixed = ConfigurationKey.all.filter { !$0.path.contains("*") }.map(\.dotted)
        let paths = Set(fixed).union(store.settings.keys).sorted()
        var table = TextTable("KEY", "VALUE", "FROM")
        var values: [JSONValue] = []
        for path in paths {
            guard store.settings[path] != nil || !store.values(path).isEmpty else { continue }
            let isURL = store.settings[path]?.key.kind == .url
            let shown = isURL ? shownURL(store.text(path) ?? "") : store.values(path).joined(separator: ", ")
            table.add(path, shown, store.origin(path).description)
            values.append(
                ["key": .string(path), "value": .string(shown), "from": .string(store.origin(path).description)])
        }
        let state = configuration.stateFolder
        if store.text("state") == nil { table.add("state", state, "default") }
        invocation.console.result(
            ["file": .string(configuration.file), "state": .string(state), "settings": .array(values)],
            text: table.text)
        return .done
    }

    static let reference = CommandSpec(
        noun: "config", verb: "reference", summary: "print the reference of all keys, as Markdown"
    ) { invocation in
        let keys = ConfigurationKey.all
        invocation.console.result(
            [
                "keys": .array(
                    keys.map {
                        [
                            "key": .string($0.dotted), "default": .string($0.fallback), "summary": .string($0.summary),
                            "environment": .string(ConfigurationKey.environmentName($0.path)),
                        ]
                    })
            ], text: ConfigurationReference.markdown)
        return .done
    }

    private static func shownURL(_ url: String) -> String {
        (try? ConnectionSettings(connectionString: url).summary) ?? "(unreadable)"
    }
}

/// The reference of the configuration, made from the table of keys.
enum ConfigurationReference {
    static var markdown: String {
        var text = "| key | default | meaning |\n|---|---|---|\n"
        for key in ConfigurationKey.all {
            let path = key.dotted.replacing("*", with: "NAME")
            text += "| `\(path)` | \(key.fallback.map { "`\($0)`" } ?? "") | \(key.summary)\(kindNote(key.kind)) |\n"
        }
        return text
    }

    private static func kindNote(_ kind: ConfigurationKey.Kind) -> String {
        switch kind {
        case .choice(let words): " One of \(words.map { "`\($0)`" }.joined(separator: ", "))."
        case .list: " A list, or words with commas."
        default: ""
        }
    }
}
