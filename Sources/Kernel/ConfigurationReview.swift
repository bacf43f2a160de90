import Reporting

/// A review of the whole configuration, and of the systems that it names. It connects to nothing.
public struct ConfigurationReview: Sendable {
    /// The configuration without what is wrong; nil if the file cannot be read.
    public let configuration: Configuration?
    /// All mistakes, each once: those of the files in the order of their lines, then those of the environment.
    public let mistakes: [ConfigurationError]

    public init(path: String?, environment: [String: String], features: FeatureList) {
        var mistakes: [ConfigurationError] = []
        var configuration: Configuration?
        do {
            let (read, found) = try Configuration.read(path: path, environment: environment, catalog: features.settings)
            mistakes += found + Self.mistakes(in: read, features)
            configuration = read
        } catch let error as ConfigurationError {
            mistakes += error.all
        } catch {
            mistakes.append(ConfigurationError("configuration", nil, "\(error)"))
        }
        var seen: Set<String> = []
        self.configuration = configuration
        self.mistakes = mistakes.filter { seen.insert($0.description).inserted }.sorted { $0.order < $1.order }
    }

    private static func mistakes(in configuration: Configuration, _ features: FeatureList) -> [ConfigurationError] {
        let store = configuration.store
        var mistakes: [ConfigurationError] = []
        func collect(_ step: () throws -> Void) {
            do {
                try mistakes.collect(step)
            } catch {
                mistakes.append(ConfigurationError("configuration", nil, "\(error)"))
            }
        }
        for (name, meant) in store.unknownVariables {
            mistakes.append(
                ConfigurationError(
                    "environment \(name)", nil, "no setting has this name",
                    hint: meant.map { "did you mean \($0)" } ?? "see 'reeve config reference'"))
        }
        let catalog = SystemCatalog(configuration: configuration, sections: features.sections)
        var names: Set<String> = []
        var areAllKnown = true
        for database in configuration.databases {
            let words = database.systems ?? (database.isEmbedded ? ShippedSystems.names : [])
            var own: [String]?
            collect {
                own = try catalog.systems(
                    words, origin: database.systemsOrigin, options: [], withRequirements: true
                ).map(\.name)
            }
            guard let own else {
                areAllKnown = false
                continue
            }
            names.formUnion(own)
            collect { try catalog.check(options: database.options, at: "\(database.optionsOrigin)", among: own) }
        }
        if areAllKnown, !names.isEmpty {
            for name in store.names(below: "schemas") where !names.contains(name) {
                mistakes.append(
                    ConfigurationError(
                        "\(store.place("schemas.\(name)"))", nil, "'schemas.\(name)': no database has this system",
                        hint: didYouMean(name, among: names.sorted())))
            }
        }
        collect { _ = try features.plans(configuration, isEmbedded: false) }
        return mistakes + features.features.flatMap { $0.mistakes(configuration) }
    }
}

extension ConfigurationError {
    /// The rank of the error in a list: by file and line.
    fileprivate var order: Rank {
        if let line { return Rank(isFile: true, place: place, line: line) }
        guard let colon = place.lastIndex(of: ":"), let line = Int(place[place.index(after: colon)...]) else {
            return Rank(isFile: place.contains("/"), place: place, line: 0)
        }
        return Rank(isFile: true, place: String(place[..<colon]), line: line)
    }

    fileprivate struct Rank: Comparable {
        let isFile: Bool
        let place: String
        let line: Int

        static func < (left: Rank, right: Rank) -> Bool {
            if left.isFile != right.isFile { return left.isFile }
            return (left.place, left.line) < (right.place, right.line)
        }
    }
}
