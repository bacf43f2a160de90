import Foundation
import Kernel
import Postgres
import Reporting

/// The commands `reeve config …`.
enum ConfigCommands {
    static let all = [check, show, reference]

    static let check = CommandSpec(
        noun: "config", verb: "check", summary: "check the configuration and the systems that it names",
        discussion:
            "Reads the file, the environment and the systems, and lists every mistake with its place. Does not connect "
            + "to any server. Exits with 2 if there is a mistake."
    ) { invocation in
        let review = ConfigurationReview(
            path: invocation.option("config"), environment: invocation.environment, features: invocation.features)
        guard let first = review.mistakes.first else { return valid(review.configuration, invocation.console) }
        if invocation.console.isJSON {
            let mistakes = review.mistakes.map { mistake -> JSONValue in
                ["message": .string(mistake.description), "hint": .string(mistake.hint)]
            }
            let error: JSONValue = [
                "code": "configuration", "message": .string(first.description), "hint": .string(first.hint),
                "mistakes": .array(mistakes),
            ]
            invocation.console.result(["valid": false, "error": error], text: "")
            return .usage
        }
        for mistake in review.mistakes {
            invocation.console.error(mistake.description, code: "configuration", hint: mistake.hint)
        }
        invocation.console.note(counted(review.mistakes.count, "mistake"))
        return .usage
    }

    private static func valid(_ configuration: Configuration?, _ console: Console) -> ExitCode {
        let (file, databases) = (configuration?.file, configuration?.databases ?? [])
        console.result(
            ["valid": true, "file": .string(file), "databases": .array(databases.map { .string($0.name) })],
            text: "\(file ?? "environment and defaults, without a file"): valid, "
                + counted(databases.count, "database"))
        return .done
    }

    static let show = CommandSpec(
        noun: "config", verb: "show", summary: "show every setting, its value and the origin of the value",
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
        noun: "config", verb: "reference", summary: "print the reference for all settings, or for TOPIC, as Markdown",
        arguments: [
            ArgumentSpec(
                name: "TOPIC", help: Reference.allCases.map(\.rawValue).joined(separator: ", "), isRequired: false,
                completion: .words(Reference.allCases.map(\.rawValue)))
        ]
    ) { invocation in
        let word = invocation.arguments.positional.first ?? Reference.settings.rawValue
        guard let topic = Reference(rawValue: word) else {
            let known = Reference.allCases.map(\.rawValue)
            throw UsageError(
                "'\(word)' is not a topic of the reference",
                hint: didYouMean(word, among: known)
                    ?? "known: \(known.joined(separator: ", "))")
        }
        let table = topic.table(invocation.features)
        let key = topic == .settings ? "keys" : topic.rawValue
        invocation.console.result([key: table.json], text: table.markdown)
        return .done
    }

    private static func shownURL(_ url: String) -> String {
        (try? ConnectionSettings(connectionString: url).summary) ?? "(unreadable)"
    }
}
