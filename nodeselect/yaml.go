package nodeselect

func parseListByItems(doc document) (batch, bool) { return batch{}, false }
func fastDocument(doc document) (batch, bool)     { return batch{}, false }
