import Foundation
import Kernel
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
                "environment \(name)", nil, "it names no key",
                hint: meant.map { "did you mean \($0)" } ?? "see 'reeve config reference'")
        }
        let catalog = SystemCatalog(configuration: configuration, sections: invocation.features.sections)
        for database in configuration.databases {
            _ = try catalog.systems(
                database.systems ?? [], origin: database.systemsOrigin, options: database.options,
                withRequirements: true)
        }
        _ = try invocation.features.plans(configuration, isEmbedded: false)
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
        let fixed = store.catalog.keys.filter { !$0.hasName }.map(\.dotted)
        let paths = Set(fixed).union(store.entries.keys).sorted()
        var table = TextTable("KEY", "VALUE", "FROM")
        var values: [JSONValue] = []
        for path in paths {
            let texts = store.texts(path)
            guard store.entries[path] != nil || !texts.isEmpty else { continue }
            let isURL = store.entries[path]?.key.isConnectionString == true
            let shown = isURL ? shownURL(texts.first ?? "") : texts.joined(separator: ", ")
            table.add(path, shown, store.origin(path).description)
            values.append(
                ["key": .string(path), "value": .string(shown), "from": .string(store.origin(path).description)])
        }
        let state = configuration.stateFolder
        if store.entries["state"] == nil { table.add("state", state, "default") }
        invocation.console.result(
            ["file": .string(configuration.file), "state": .string(state), "settings": .array(values)],
            text: table.text)
        return .done
    }

    static let reference = CommandSpec(
        noun: "config", verb: "reference", summary: "print the reference of all keys, as Markdown"
    ) { invocation in
        let keys = invocation.features.settings.keys
        invocation.console.result(
            [
                "keys": .array(
                    keys.map {
                        [
                            "key": .string($0.dotted), "default": .string($0.fallback), "summary": .string($0.summary),
                            "environment": .string(SettingKey.environmentName($0.path)),
                        ]
                    })
            ], text: SettingReference.markdown(keys))
        return .done
    }

    private static func shownURL(_ url: String) -> String {
        (try? ConnectionSettings(connectionString: url).summary) ?? "(unreadable)"
    }
}

/// The reference of the configuration, made from the keys.
public enum SettingReference {
    /// A table in Markdown.
    public static func markdown(_ keys: [SettingKey]) -> String {
        keys.reduce(into: "| key | default | meaning |\n|---|---|---|\n") { text, key in
            let path = key.dotted.replacing("*", with: "NAME")
            text += "| `\(path)` | \(key.fallback.map { "`\($0)`" } ?? "") | \(key.summary) |\n"
        }
    }
}
